"""Which thread a new Email joins (mail-rules 8, RFC 8621 §3). Pure: look-ups come in, decisions go out.

Threads never merge: a threadId is immutable. An Email joins the first thread that one of its reference hashes knows;
a hash that is known keeps its thread, unless that thread is full and another takes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

CAP = 1_000
"""How many Emails a thread holds at most."""


def reference_order(message_id: list[str] | None, in_reply_to: list[str] | None, refs: list[str] | None) -> list[str]:
    """All ids that a message names or has, the nearest relatives first, its own last but for the far root."""
    return [*(in_reply_to or ()), *reversed((refs or ())[1:]), *(message_id or ()), *((refs or ())[:1])]


@dataclass(slots=True)
class Threads:
    """The look-ups of one batch: ``known`` reference hash → tid, ``sizes`` tid → Emails in it.

    ``learned`` collects the hashes to store (hash, tid); ``replaced`` those that a thread takes over from a full one.
    """

    known: dict[int, int]
    sizes: dict[int, int]
    learned: dict[int, int] = field(default_factory=dict)
    replaced: dict[int, int] = field(default_factory=dict)

    def join(self, hashes: Sequence[int], founder: int) -> int:
        """The thread of a new Email with these reference hashes; ``founder`` (its eid) where it starts one."""
        full: set[int] = set()
        tid = founder
        for one in hashes:
            found = self.known.get(one)
            if found is None or found in full:
                continue
            if self.sizes.get(found, 0) < CAP:
                tid = found
                break
            full.add(found)
        self.add(hashes, tid, full)
        return tid

    def add(self, hashes: Iterable[int], tid: int, full: Iterable[int] = ()) -> None:
        """Count an Email into ``tid`` and remember its hashes there, but for those that another thread keeps."""
        over = set(full)
        self.sizes[tid] = self.sizes.get(tid, 0) + 1
        for one in hashes:
            holder = self.known.get(one)
            if holder is None:
                self.learned[one] = self.known[one] = tid
            elif holder in over and holder != tid:
                self.replaced[one] = self.known[one] = tid


def group(rows: Iterable[tuple[int, int, int]]) -> Mapping[int, dict[int, int]]:
    """Rows (mid, tid, emails) as tid → {mid: emails}."""
    found: dict[int, dict[int, int]] = {}
    for mid, tid, emails in rows:
        found.setdefault(tid, {})[mid] = emails
    return found
