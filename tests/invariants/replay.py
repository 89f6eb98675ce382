"""I3: from any state ever handed out, /changes and queryChanges lead to what /get and /query say now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jmapplug.testing.proxy import Client

from .jmap_view import NEWEST, Objects, View, requested


@dataclass
class Told:
    """What /changes told, from one state to its end. ``steps``: created, updated, destroyed of each answer."""

    steps: list[tuple[set[str], set[str], set[str]]] = field(default_factory=list)
    until: str = ""
    properties: list[str] | None = None
    error: str = ""


def replayed(
    client: Client,
    before: View,
    now: View,
    *,
    reborn: frozenset[str] | set[str] = frozenset(),
    one_by_one: bool = False,
) -> Iterator[str]:
    """Breaches between two views. ``reborn``: ids that were out of sight in between, and may be told as created.

    ``one_by_one``: also with ``maxChanges`` 1, where every intermediate state is one that was handed out.
    """
    pairs: dict[str, tuple[Objects, Objects]] = {
        "Mailbox": (before.mailboxes, now.mailboxes),
        "Email": (before.emails, now.emails),
        "Thread": (before.threads, now.threads),
    }
    for kind, (old, new) in pairs.items():
        for most in (None, 1) if one_by_one else (None,):
            told = _told(client, kind, before.states[kind], most)
            where = f"I3: {kind} from {before.states[kind]}" + (f", {most} by {most}" if most else "")
            if told.error:
                yield f"{where}: {told.error}"
                continue
            yield from (f"{where}: {text}" for text in _judged(told, old, new, now.states[kind], most))
            if most is None and len(told.steps) == 1:
                yield from (f"{where}: {text}" for text in _named(told, old, new, set(reborn)))
    yield from _queries(client, before, now)


def _told(client: Client, kind: str, since: str, most: int | None) -> Told:
    told, more = Told(), True
    while more:
        args: dict[str, Any] = {} if most is None else {"maxChanges": most}
        (answer,) = requested(client, [(f"{kind}/changes", {"sinceState": since, **args})])
        if "newState" not in answer:
            told.error = f"{answer}"
            return told
        told.steps.append((set(answer["created"]), set(answer["updated"]), set(answer["destroyed"])))
        told.properties = answer.get("updatedProperties")
        since, more = answer["newState"], answer["hasMoreChanges"]
    told.until = since
    return told


def _judged(told: Told, old: Objects, new: Objects, until: str, most: int | None) -> Iterator[str]:
    """The copy held at ``old`` with everything told applied is ``new``."""
    known, touched = set(old), set()
    for created, updated, destroyed in told.steps:
        if created & updated or created & destroyed or updated & destroyed:
            yield f"one id in two lists: {created & updated | created & destroyed | updated & destroyed}"
        if most is not None and len(created) + len(updated) + len(destroyed) > most:
            yield f"more than {most} changes in an answer"
        known = (known | created | updated) - destroyed
        touched |= created | updated
    if told.until != until:
        yield f"ends at {told.until}, /get is at {until}"
    if known != set(new):
        yield f"too many {sorted(known - set(new))}, missing {sorted(set(new) - known)}"
    for ident in set(old) & set(new) - touched:
        if old[ident] != new[ident]:
            yield f"{ident} changed and nothing told it"


def _named(told: Told, old: Objects, new: Objects, reborn: set[str]) -> Iterator[str]:
    """Each id stands in the right list (RFC 8620 §5.2). What came and went in between may be told as destroyed."""
    ((created, updated, destroyed),) = told.steps
    if wrong := created & set(old) - reborn:
        yield f"created what was known: {sorted(wrong)}"
    if wrong := updated - set(old):
        yield f"updated what was not known: {sorted(wrong)}"
    if wrong := destroyed - set(old) - reborn:
        yield f"destroyed what was not known: {sorted(wrong)}"
    for ident in updated & set(old) & set(new) if told.properties is not None else ():
        changed = {name for name in new[ident] if new[ident][name] != old[ident][name]}
        if lacking := changed - set(told.properties or ()):
            yield f"updatedProperties lacks {sorted(lacking)} of {ident}"


def _queries(client: Client, before: View, now: View) -> Iterator[str]:
    rows = [ident for ident in before.queries if ident in now.queries]
    wanted = [
        (
            "Email/queryChanges",
            {
                "sinceQueryState": before.queries[ident][0],
                "sort": NEWEST,
                **({"filter": {"inMailbox": ident}} if ident else {}),
            },
        )
        for ident in rows
    ]
    for ident, answer in zip(rows, requested(client, wanted), strict=True):
        where = f"I3: queryChanges of {ident or 'everything'} from {before.queries[ident][0]}"
        if "removed" not in answer:
            yield f"{where}: {answer}"
            continue
        gone = set(answer["removed"])
        spliced = [each for each in before.queries[ident][1] if each not in gone]
        for item in sorted(answer["added"], key=lambda one: one["index"]):
            spliced.insert(item["index"], item["id"])
        if spliced != now.queries[ident][1]:
            yield f"{where}: gives {spliced}, not {now.queries[ident][1]}"
