"""What JMAP shows of an account, and whether it agrees with itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jmapplug.testing.proxy import Client

NEWEST = [{"property": "receivedAt", "isAscending": False}]
COUNTS = ("totalEmails", "unreadEmails", "totalThreads", "unreadThreads")
PROPERTIES = ["subject", "mailboxIds", "keywords", "threadId", "receivedAt", "size", "blobId", "messageId"]
CALLS = 16
"""In one Request; every server takes so many."""
TRIES = 20

Objects = dict[str, dict[str, Any]]


@dataclass
class View:
    """Everything that JMAP shows, and the states that it was told with."""

    states: dict[str, str]
    mailboxes: Objects
    emails: Objects
    threads: Objects
    queries: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """Mailbox id ("" = all) → (queryState, ids)."""
    totals: dict[str, int] = field(default_factory=dict)
    """Mailbox id ("" = all) → total."""

    def by_subject(self) -> dict[str, str]:
        """Subject → Email id; of several the last."""
        return {email["subject"]: ident for ident, email in self.emails.items()}

    def path(self, ident: str) -> tuple[str, ...]:
        names: list[str] = []
        while ident:
            box = self.mailboxes[ident]
            names.insert(0, box["name"])
            ident = box["parentId"]
        return tuple(names)

    def paths(self) -> dict[tuple[str, ...], str]:
        """Path of names → Mailbox id."""
        return {self.path(ident): ident for ident in self.mailboxes}


def look(client: Client) -> View:
    """Everything, of one moment: looked at again when something changed meanwhile."""
    for _ in range(TRIES):
        view = _look(client)
        states = {kind: client.call(f"{kind}/get", ids=[])["state"] for kind in view.states}
        if states == view.states:
            return view
    raise AssertionError(f"the account does not come to rest: {states}")


def _look(client: Client) -> View:
    query = {"sort": NEWEST, "calculateTotal": True}
    back = {"resultOf": "1", "name": "Email/query", "path": "/ids"}
    threads_of = {"resultOf": "2", "name": "Email/get", "path": "/list/*/threadId"}
    boxes, asked, emails, threads = client.answers(
        ("Mailbox/get", {"ids": None}),
        ("Email/query", query),
        ("Email/get", {"#ids": back, "properties": PROPERTIES}),
        ("Thread/get", {"#ids": threads_of}),
    )
    states = {"Mailbox": boxes["state"], "Email": emails["state"], "Thread": threads["state"]}
    mailboxes = {box["id"]: box for box in boxes["list"]}
    got = {email["id"]: email for email in emails["list"]}
    view = View(states, mailboxes, got, {thread["id"]: thread for thread in threads["list"]})
    view.queries[""], view.totals[""] = (asked["queryState"], asked["ids"]), asked["total"]
    wanted = [("Email/query", {"filter": {"inMailbox": ident}, **query}) for ident in mailboxes]
    for ident, answer in zip(mailboxes, requested(client, wanted), strict=True):
        if "ids" in answer:  # else destroyed meanwhile: we look again
            view.queries[ident], view.totals[ident] = (answer["queryState"], answer["ids"]), answer["total"]
    return view


def requested(client: Client, calls: list[tuple[str, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The answers to many calls, in few Requests."""
    for start in range(0, len(calls), CALLS):
        yield from (answer for _, answer, _ in client.request(*calls[start : start + CALLS]))


def contradictions(view: View) -> Iterator[str]:
    """I1: lists, totals, threads and counts, counted again."""
    if set(view.queries[""][1]) != set(view.emails):
        yield f"I1: Email/query lists what Email/get does not have: {set(view.queries[''][1]) ^ set(view.emails)}"
    for ident, (_, ids) in view.queries.items():
        here = {each for each, email in view.emails.items() if not ident or ident in email["mailboxIds"]}
        if set(ids) != here or len(ids) != len(here) or view.totals[ident] != len(ids):
            where = f"the list of {ident or 'everything'} (total {view.totals[ident]})"
            yield f"I1: {where} holds {ids}, not {sorted(here)}"
    yield from _threads(view)
    yield from _counts(view)


def _threads(view: View) -> Iterator[str]:
    """Threads hold their Emails, oldest first, ties by id."""
    wanted = defaultdict(list)
    for ident, email in view.emails.items():
        wanted[email["threadId"]].append((email["receivedAt"], ident))
    for ident in wanted.keys() | view.threads.keys():
        shown = view.threads.get(ident, {"emailIds": []})["emailIds"]
        if shown != [email for _, email in sorted(wanted[ident])]:
            yield f"I1: the Thread {ident} holds {shown}, not {[email for _, email in sorted(wanted[ident])]}"


def _counts(view: View) -> Iterator[str]:
    """The four counts of every Mailbox, counted again (RFC 8621 §2, with its rule about Trash)."""
    trash = next((ident for ident, box in view.mailboxes.items() if box["role"] == "trash"), None)
    unread = {i: e for i, e in view.emails.items() if not {"$seen", "$draft"} & set(e["keywords"])}
    outside = {email["threadId"] for email in unread.values() if set(email["mailboxIds"]) - {trash}}
    inside = {email["threadId"] for email in unread.values() if trash in email["mailboxIds"]}
    for ident, box in view.mailboxes.items():
        here = {i: e for i, e in view.emails.items() if ident in e["mailboxIds"]}
        threads = {email["threadId"] for email in here.values()}
        unseen = threads & (inside if ident == trash else outside)
        wanted = (len(here), len(here.keys() & unread.keys()), len(threads), len(unseen))
        shown = tuple(box[name] for name in COUNTS)
        if shown != wanted:
            yield f"I1: the Mailbox {ident} ({'/'.join(view.path(ident))}) counts {shown}, not {wanted}"
