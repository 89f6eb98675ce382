"""One account: what JMAP shows of it (``View``), what another IMAP client sees, and whether the two agree.

:meth:`Scene.agree` ends every step of every story. It looks at the server UNDELETED, recounts everything that the proxy
counts, and replays /changes and /queryChanges from every state that was ever handed out.
"""

from __future__ import annotations

import base64
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import Client, Proxy
from jmapplug.testing.pymap_server import Pymap

NEWEST = [{"property": "receivedAt", "isAscending": False}]
IDENTITY = {"dovecot": "X-GUID", "courier": "X-GUID", "pymap": "EMAILID"}
"""What this kind of server calls a message's identity."""
COUNTS = ("totalEmails", "unreadEmails", "totalThreads", "unreadThreads")
SYSTEM = {"\\seen": "$seen", "\\draft": "$draft", "\\flagged": "$flagged", "\\answered": "$answered"}

Objects = dict[str, dict[str, Any]]


def message(subject: str, *extra: str, body: str = "Some text.", ident: str | None = None, date: int = 5) -> bytes:
    """A message; its Message-ID is made from ``ident`` (the subject)."""
    lines = [
        "From: Ada <ada@example.com>",
        "To: Bob <bob@example.org>",
        f"Subject: {subject}",
        f"Date: Mon, {date} Jan 2026 10:00:00 +0000",
        f"Message-ID: <{(ident or subject).replace(' ', '.')}@example.com>",
        *extra,
        "",
        body,
        "",
    ]
    return "\r\n".join(lines).encode()


@dataclass
class View:
    """Everything that JMAP shows, and the states that it was told with."""

    states: dict[str, str]
    mailboxes: Objects
    emails: Objects
    threads: Objects
    queries: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """Mailbox id ("" = all) → (queryState, ids)."""

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


class Scene:
    """See the module. ``append``, ``store`` … act as the other client; ``look`` and ``agree`` read through JMAP."""

    def __init__(self, proxy: Proxy, server: Dovecot | Pymap, account: str, kind: str, user: str = "") -> None:
        self.proxy, self.server, self.account, self.kind = proxy, server, account, kind
        self.user = user or server.new_user()
        self.imap = server.imap(self.user)
        self.client: Client | None = None
        self.history: list[View] = []
        self.reborn: set[str] = set()
        """Emails and Threads that were out of sight between two states: told as created, although known before."""
        self.prefix = "INBOX." if kind == "courier" else ""
        self.separator = "." if kind == "courier" else "/"

    def begin(self, **more: Any) -> View:
        """Add the account to the proxy, wait for its first sync."""
        self.client = self.proxy.add(self.account, self.server, self.user, **more)
        self.proxy.settled(self.account)
        return self.agree()

    def close(self) -> None:
        self.imap.logout()
        if self.client is not None:
            assert self.proxy.management.send("DELETE", f"/api/accounts/{self.account}").status < 300

    @property
    def jmap(self) -> Client:
        assert self.client is not None, "begin() first"
        return self.client

    # --- the other client --------------------------------------------------------------------------------------------

    def name(self, *path: str) -> str:
        """The quoted IMAP name of a folder."""
        raw = "INBOX" if path == ("Inbox",) else self.prefix + self.separator.join(utf7(level) for level in path)
        return '"' + raw.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def do(self, command: str, *args: str) -> list[Any]:
        """A command that must succeed; its untagged data."""
        typ, data = self.imap._simple_command(command, *args)  # type: ignore[attr-defined]
        assert typ == "OK", (command, args, data)
        return list(data)

    def uid(self, folder: str, *args: str) -> list[Any]:
        """A UID command in a folder (a path with one level)."""
        typ, data = self.imap.select(self.name(folder))
        assert typ == "OK", (folder, data)
        typ, data = self.imap.uid(*args)
        assert typ == "OK", (args, data)
        return list(data)

    def create(self, *path: str) -> None:
        self.do("CREATE", self.name(*path))

    def append(self, folder: str, *raws: bytes, flags: str = "", date: str = "") -> None:
        for raw in raws:
            typ, data = self.imap.append(self.name(folder), flags, date, raw)
            assert typ == "OK", data

    def uids(self, folder: str, criteria: str = "ALL") -> list[str]:
        return [uid.decode() for uid in self.uid(folder, "SEARCH", criteria)[0].split()]

    def flag(self, folder: str, uid: str, *flags: str, on: bool = True) -> None:
        self.uid(folder, "STORE", uid, f"{'+' if on else '-'}FLAGS.SILENT", f"({' '.join(flags)})")

    def expunge(self, folder: str, uid: str) -> None:
        self.flag(folder, uid, "\\Deleted")
        assert self.imap.expunge()[0] == "OK"

    def copy(self, folder: str, uid: str, target: str) -> None:
        self.uid(folder, "COPY", uid, self.name(target))

    def move(self, folder: str, uid: str, target: str) -> None:
        self.uid(folder, "MOVE", uid, self.name(target))

    # --- what the server has -----------------------------------------------------------------------------------------

    def on_server(self) -> tuple[set[tuple[str, ...]], Counter[Any]]:
        """Paths of folders, and the messages: (subject, folders, keywords) as JMAP should show them."""
        paths, found = {("Inbox",)}, defaultdict(list)
        for raw, selectable in self.listed():
            path = self._path(raw)
            paths.update(path[:end] for end in range(1, len(path) + 1))
            if selectable:
                for identity, subject, flags in self._messages(raw):
                    found[identity, subject].append((path, flags))
        emails: Counter[Any] = Counter()
        for (_, subject), copies in found.items():
            words = [keywords(flags) for _, flags in copies]
            both, one = set.intersection(*words), set.union(*words)
            merged = (one - {"$seen", "$draft"}) | (both & {"$seen", "$draft"})
            emails[subject, frozenset(path for path, _ in copies), frozenset(merged)] += 1
        return paths, emails

    def listed(self) -> list[tuple[str, bool]]:
        """(raw name, selectable) of every folder."""
        self.imap.literal = None  # type: ignore[attr-defined]
        typ, rows = self.imap.list('""', '"*"')
        assert typ == "OK", rows
        found = []
        for row in rows:
            if row is None or row == b")":
                continue
            head, literal = row if isinstance(row, tuple) else (row, None)
            match = re.match(rb'\((.*?)\) (NIL|"[^ ]+") (.*)', head, re.DOTALL)
            assert match, row
            raw = literal if literal is not None else match[3]
            if literal is None and raw.startswith(b'"'):
                raw = re.sub(rb"\\(.)", rb"\1", raw[1:-1])
            found.append((raw.decode("ascii"), not re.search(rb"(?i)noselect|nonexistent", match[1])))
        return found

    def _path(self, raw: str) -> tuple[str, ...]:
        if raw.upper() == "INBOX":
            return ("Inbox",)
        return tuple(from_utf7(level) for level in raw.removeprefix(self.prefix).split(self.separator))

    def _messages(self, raw: str) -> Iterable[tuple[str, str, set[str]]]:
        quoted = '"' + raw.replace("\\", "\\\\").replace('"', '\\"') + '"'
        typ, data = self.imap.select(quoted, readonly=True)
        assert typ == "OK", (raw, data)
        uids = self.imap.uid("SEARCH", "UNDELETED")[1][0].split()
        if not uids:
            return []
        item = IDENTITY[self.kind]
        wanted = f"(FLAGS {item} BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
        _, rows = self.imap.uid("FETCH", b",".join(uids).decode(), wanted)
        return [self._message(item, rows, at) for at, row in enumerate(rows) if isinstance(row, tuple)]

    @staticmethod
    def _message(item: str, rows: list[Any], at: int) -> tuple[str, str, set[str]]:
        tail = rows[at + 1] if at + 1 < len(rows) and isinstance(rows[at + 1], bytes) else b""
        text = (rows[at][0] + b" " + tail).decode("ascii", "replace")
        identity = re.search(rf"{item} \(?([^ )]+)", text)
        flags = re.search(r"FLAGS \(([^)]*)\)", text)
        assert identity and flags, text
        subject = re.sub(rb"\r\n[ \t]", b" ", rows[at][1]).partition(b":")[2].strip().decode()
        return identity[1], subject, set(flags[1].split())

    # --- what JMAP shows ---------------------------------------------------------------------------------------------

    def look(self) -> View:
        """Everything, in one request: so it belongs together."""
        query = {"sort": NEWEST, "calculateTotal": True}
        back = {"resultOf": "1", "name": "Email/query", "path": "/ids"}
        properties = ["subject", "mailboxIds", "keywords", "threadId", "receivedAt", "size", "blobId", "messageId"]
        boxes, asked, emails = (
            answer
            for _, answer, _ in self.jmap.request(
                ("Mailbox/get", {"ids": None}),
                ("Email/query", query),
                ("Email/get", {"#ids": back, "properties": properties}),
            )
        )
        assert emails["notFound"] == [], emails
        assert asked["total"] == len(asked["ids"]), asked
        got = {email["id"]: email for email in emails["list"]}
        assert set(got) == set(asked["ids"])
        threads = self.jmap.call("Thread/get", ids=sorted({email["threadId"] for email in got.values()}))
        states = {"Mailbox": boxes["state"], "Email": emails["state"], "Thread": threads["state"]}
        mailboxes = {box["id"]: box for box in boxes["list"]}
        view = View(states, mailboxes, got, {thread["id"]: thread for thread in threads["list"]})
        view.queries[""] = (asked["queryState"], asked["ids"])
        for ident in mailboxes:
            one = self.jmap.call("Email/query", filter={"inMailbox": ident}, **query)
            counts = (one["total"], len(one["ids"]), mailboxes[ident]["totalEmails"])
            assert len(set(counts)) == 1, (ident, counts)
            view.queries[ident] = (one["queryState"], one["ids"])
        return view

    def sync(self) -> View:
        """One pass now, then what is to be seen."""
        self.proxy.sync(self.account)
        self.proxy.settled(self.account)
        return self.look()

    def agree(self) -> View:
        """Sync; the proxy's view is the server's, its counts are recounted, its changes lead here from everywhere."""
        view = self.sync()
        paths, messages = self.on_server()
        assert set(view.paths()) == paths
        shown = Counter(
            (
                email["subject"],
                frozenset(view.path(box) for box in email["mailboxIds"]),
                frozenset(email["keywords"]),
            )
            for email in view.emails.values()
        )
        assert shown == messages, (shown - messages, messages - shown)
        check_threads(view)
        check_counts(view)
        for earlier in self.history:
            self._replay(earlier, view)
        self.history.append(view)
        return view

    # --- I3: from any state to now -----------------------------------------------------------------------------------

    def _replay(self, before: View, now: View) -> None:
        for kind, old, new in (
            ("Mailbox", before.mailboxes, now.mailboxes),
            ("Email", before.emails, now.emails),
            ("Thread", before.threads, now.threads),
        ):
            for most in (None, 1):
                self._replay_type(kind, before.states[kind], now.states[kind], old, new, most)
        for ident, (state, ids) in before.queries.items():
            if ident in now.queries:
                self._replay_query(ident, state, ids, now.queries[ident][1])

    def _replay_type(self, kind: str, since: str, until: str, old: Objects, new: Objects, most: int | None) -> None:
        known, touched, counted = set(old), set(), None
        told: set[str] = set()
        more = True
        while more:
            args = {} if most is None else {"maxChanges": most}
            answer = self.jmap.call(f"{kind}/changes", sinceState=since, **args)
            created, updated, destroyed = (set(answer[name]) for name in ("created", "updated", "destroyed"))
            assert not (created & updated or created & destroyed or updated & destroyed), answer
            if most is None:
                assert not created & set(old) - self.reborn, f"{kind}: created what was known"
                assert updated <= set(old), f"{kind}: updated what was not known"
                assert destroyed <= set(old), f"{kind}: destroyed what was not known"
                counted = answer.get("updatedProperties")
                told = updated
            else:
                assert len(created) + len(updated) + len(destroyed) <= most
            known = (known | created | updated) - destroyed
            touched |= created | updated
            since, more = answer["newState"], answer["hasMoreChanges"]
        assert since == until, f"{kind}: does not end at the state of /get"
        assert known == set(new), f"{kind}: replayed {known ^ set(new)}"
        for ident in set(old) & set(new) - touched:
            assert old[ident] == new[ident], f"{kind} {ident} changed and nothing told it"
        if counted is not None:
            for ident in told:
                changed = {name for name in new[ident] if new[ident][name] != old[ident][name]}
                assert changed <= set(counted), f"updatedProperties lacks {changed - set(counted)}"

    def _replay_query(self, ident: str, state: str, ids: list[str], now: list[str]) -> None:
        more = {"filter": {"inMailbox": ident}} if ident else {}
        answer = self.jmap.call("Email/queryChanges", sinceQueryState=state, sort=NEWEST, **more)
        spliced = [each for each in ids if each not in set(answer["removed"])]
        for item in sorted(answer["added"], key=lambda one: one["index"]):
            spliced.insert(item["index"], item["id"])
        assert spliced == now, f"queryChanges of {ident or 'everything'}: {answer}"


def check_threads(view: View) -> None:
    """Threads hold their Emails, oldest first, ties by id."""
    wanted = defaultdict(list)
    for ident, email in view.emails.items():
        wanted[email["threadId"]].append((email["receivedAt"], ident))
    shown = {ident: thread["emailIds"] for ident, thread in view.threads.items()}
    assert shown == {ident: [email for _, email in sorted(each)] for ident, each in wanted.items()}


def check_counts(view: View) -> None:
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
        assert tuple(box[name] for name in COUNTS) == wanted, view.path(ident)


def keywords(flags: set[str]) -> set[str]:
    """Flags as keywords: lower case; what begins with a backslash and is not one of RFC 8621's four is none."""
    lower = {flag.lower() for flag in flags}
    return {SYSTEM.get(flag, flag) for flag in lower if flag in SYSTEM or not flag.startswith("\\")}


def utf7(text: str) -> str:
    """Modified UTF-7 (RFC 3501 §5.1.3)."""

    def shifted(match: re.Match[str]) -> str:
        if match[0] == "&":
            return "&-"
        coded = match[0].encode("utf-16-be")
        return "&" + base64.b64encode(coded).decode().rstrip("=").replace("/", ",") + "-"

    return re.sub(r"&|[^\x20-\x7e]+", shifted, text)


def from_utf7(text: str) -> str:
    def plain(match: re.Match[str]) -> str:
        coded = match[1].replace(",", "/")
        return base64.b64decode(coded + "=" * (-len(coded) % 4)).decode("utf-16-be") if coded else "&"

    return re.sub(r"&([^-]*)-", plain, text)
