"""I1, I2, I4, I5 and I6 as generators of breaches."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from .jmap_view import View, contradictions
from .upstream import Held, Message, Path, merged

Group = tuple[str, str]


class Shape(NamedTuple):
    """What of an Email can be seen on both sides."""

    subject: str
    paths: frozenset[Path]
    keywords: frozenset[str]
    size: int

    def __str__(self) -> str:
        where = ", ".join(sorted("/".join(path) for path in self.paths))
        return f"“{self.subject}” in {where} with {sorted(self.keywords)}, {self.size} octets"


class Wish(NamedTuple):
    """What an acknowledged /set asked of one Email, and nobody has changed since. ``keywords``: word → is it set.

    ``mailboxes``: ids, None for "whatever".
    """

    email: str
    destroyed: bool = False
    keywords: Mapping[str, bool] = MappingProxyType({})
    mailboxes: frozenset[str] | None = None


@dataclass
class Ledger:
    """What ids have meant so far (I5): one for the life of an account."""

    groups: dict[str, Group] = field(default_factory=dict)
    """Email id → the message upstream."""
    meanings: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Email id → its immutable properties."""
    boxes: dict[str, str] = field(default_factory=dict)
    """Mailbox id → what the server calls the folder."""

    def note(self, held: Held, view: View) -> Iterator[str]:
        """Breaches of I5 against everything noted before. To be called when I1 holds."""
        yield from _bound("Email", self.groups, pairs(held, view))
        yield from _bound("Mailbox", self.boxes, box_pairs(held, view))
        for ident, email in view.emails.items():
            meaning = tuple(str(email[name]) for name in ("blobId", "receivedAt", "size", "subject", "threadId"))
            before = self.meanings.setdefault(ident, meaning)
            if before != meaning:
                yield f"I5: the Email {ident} was {before} and is {meaning}"


def _bound(kind: str, known: dict[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    ids = {what: ident for ident, what in known.items()}
    for ident, what in now.items():
        if known.get(ident, what) != what:
            yield f"I5: the {kind} {ident} stood for {known[ident]} and stands for {what}"
        if ids.get(what, ident) != ident:
            yield f"I5: {what} was the {kind} {ids[what]} and is {ident}"
        known[ident] = what


def shapes(held: Held) -> dict[Group, Shape]:
    """What each message should look like in JMAP."""
    return {
        group: Shape(group[1], frozenset(each.path for each in copies), merged(copies), copies[0].size)
        for group, copies in held.copies().items()
    }


def _shown(view: View, email: dict[str, Any]) -> Shape:
    where = frozenset(view.path(box) for box in email["mailboxIds"])
    return Shape(email["subject"] or "", where, frozenset(email["keywords"]), email["size"])


def pairs(held: Held, view: View) -> dict[str, Group]:
    """Email id → message. Those that look the same as another one are left out: nobody can tell."""
    there, here = defaultdict(list), defaultdict(list)
    for group, shape in shapes(held).items():
        there[shape].append(group)
    for ident, email in view.emails.items():
        here[_shown(view, email)].append(ident)
    return {here[shape][0]: groups[0] for shape, groups in there.items() if len(groups) == len(here[shape]) == 1}


def box_pairs(held: Held, view: View) -> dict[str, str]:
    """Mailbox id → what the server calls the folder, where it has such a thing.

    But for INBOX: RENAME takes its name for the server away and leaves it what it is (mail-rules 25).
    """
    ids = {path: ident for path, ident in view.paths().items() if path != ("Inbox",)}
    return {ids[path]: folder.server_id for path, folder in held.folders.items() if folder.server_id and path in ids}


def conservation(held: Held, view: View) -> Iterator[str]:
    """I1."""
    paths = view.paths()
    for path in held.paths ^ set(paths):
        side = "no Mailbox" if path not in paths else f"the Mailbox {paths[path]} and no folder"
        yield f"I1: {'/'.join(path)} is {side}"
    for path, folder in held.folders.items():
        box = view.mailboxes.get(paths.get(path, ""))
        if box is not None and box["role"] != "inbox" and box["isSubscribed"] != folder.subscribed:
            yield f"I1: {'/'.join(path)} ({box['id']}): isSubscribed is {box['isSubscribed']}"
    wanted, ids = Counter(shapes(held).values()), defaultdict(list)
    for ident, email in view.emails.items():
        ids[_shown(view, email)].append(ident)
    shown = Counter({shape: len(each) for shape, each in ids.items()})
    for shape, count in (wanted - shown).items():
        yield f"I1: {count} × {shape} on the server, and no such Email"
    for shape, count in (shown - wanted).items():
        yield f"I1: {count} × {shape} is shown as {ids[shape]}, and not so on the server"
    yield from contradictions(view)


def contents(
    held: Held, view: View, read: Callable[[Message], bytes], download: Callable[[str], bytes], sample: Iterable[str]
) -> Iterator[str]:
    """I1, I5: the octets of some Emails are those of every one of their copies upstream."""
    paired, copies = pairs(held, view), held.copies()
    for ident in sample:
        if ident not in paired:
            continue
        octets = download(view.emails[ident]["blobId"])
        if len(octets) != view.emails[ident]["size"]:
            yield f"I1: the Email {ident} has {len(octets)} octets, its size is {view.emails[ident]['size']}"
        for copy in copies[paired[ident]]:
            if _digest(read(copy)) != _digest(octets):
                yield f"I5: the Email {ident} has other octets than its copy {copy.uid} in {'/'.join(copy.path)}"


def acknowledged(held: Held, view: View, ledger: Ledger, wishes: Iterable[Wish]) -> Iterator[str]:
    """I2."""
    copies = held.copies()
    for wish in wishes:
        group = ledger.groups.get(wish.email)
        found = copies.get(group) if group else None
        if wish.destroyed:
            if found:
                yield f"I2: the Email {wish.email} was destroyed and is in {_places(found)}"
            continue
        if not found:
            yield f"I2: the Email {wish.email} was acknowledged and is not on the server"
            continue
        words = merged(found)
        for word, wanted in wish.keywords.items():
            if (word in words) != wanted:
                yield f"I2: {word} of the Email {wish.email} was {'set' if wanted else 'removed'}, and is not so"
        if wish.mailboxes is not None:
            paths = {view.path(box) for box in wish.mailboxes if box in view.mailboxes}
            if {each.path for each in found} != paths:
                yield f"I2: the Email {wish.email} was put into {sorted(paths)} and is in {_places(found)}"


def _places(copies: Iterable[Message]) -> list[str]:
    return sorted("/".join(each.path) for each in copies)


def sent(taken: Iterable[bytes], confirmed: Iterable[str]) -> Iterator[str]:
    """I4. ``taken``: the messages that the SMTP server took; ``confirmed``: Message-IDs (without <>) acknowledged."""
    found: Counter[str] = Counter()
    for raw in taken:
        match = re.search(rb"(?im)^message-id:\s*<([^>\r\n]*)>", raw.partition(b"\r\n\r\n")[0])
        found[match[1].decode() if match else hashlib.sha256(raw).hexdigest()] += 1
    for ident, count in found.items():
        if count > 1:
            yield f"I4: <{ident}> was taken {count} times"
    for ident in confirmed:
        if not found[ident]:
            yield f"I4: <{ident}> was acknowledged and never taken"


def untouched(before: Held, after: Held, named: Iterable[Group]) -> Iterator[str]:
    """I6, of a write between two looks in which nobody else wrote. ``named``: the messages that it was about."""
    mine = set(named)
    old = {(each.path, each.uid): each for each in before.messages if each.group not in mine}
    new = {(each.path, each.uid): each for each in after.messages if each.group not in mine}
    for place in old.keys() | new.keys():
        was, is_ = old.get(place), new.get(place)
        if was != is_:
            where = f"“{(was or is_).subject}”, {place[1]} in {'/'.join(place[0])}"  # type: ignore[union-attr]
            yield f"I6: {where}, was not named and {'came' if was is None else 'went' if is_ is None else 'changed'}"


def _digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()
