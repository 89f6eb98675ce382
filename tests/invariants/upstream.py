"""What a mail server has: folders and messages, read by a plain IMAP client of its own."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

Path = tuple[str, ...]
SYSTEM = {"\\seen": "$seen", "\\draft": "$draft", "\\flagged": "$flagged", "\\answered": "$answered"}
_TEXT = "BODY.PEEK[HEADER.FIELDS (SUBJECT MESSAGE-ID)]"


class Message(NamedTuple):
    """One message in one folder. ``identity``: what the server calls the message, in whatever folder it is."""

    path: Path
    uid: int
    identity: str
    subject: str
    keywords: frozenset[str]
    size: int
    deleted: bool

    @property
    def group(self) -> tuple[str, str]:
        """What all copies of one message have in common."""
        return self.identity, self.subject


class Folder(NamedTuple):
    """``server_id``: what the server calls the folder, whatever its name is; None where it has no such thing."""

    raw: str
    selectable: bool
    subscribed: bool
    server_id: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """Everything, \\Deleted messages too."""

    folders: dict[Path, Folder]
    messages: tuple[Message, ...]

    @property
    def paths(self) -> set[Path]:
        """Every folder, and every level above one."""
        return {path[:end] for path in self.folders for end in range(1, len(path) + 1)}

    def copies(self) -> dict[tuple[str, str], list[Message]]:
        """Group → its copies that are not ``\\Deleted``."""
        found: dict[tuple[str, str], list[Message]] = {}
        for each in self.messages:
            if not each.deleted:
                found.setdefault(each.group, []).append(each)
        return found


class Upstream:
    """Reads an account through ``imap``, a logged-in connection that nobody else uses meanwhile.

    ``folder_ids``: whether what the server calls a folder can be believed.
    """

    def __init__(self, imap: imaplib.IMAP4, folder_ids: bool = True) -> None:
        self.imap = imap
        self._can = set(imap.capability()[1][0].decode().upper().split())  # imaplib's own are those before the login
        self._labels = "X-GM-EXT-1" in self._can
        self._item, folder_item = self._identities()
        self._folder_item = folder_item if folder_ids else ""
        self.prefix = self._prefix()

    def look(self) -> Held:
        subscribed = {raw for raw, _, _ in self._rows(self.imap.lsub('""', '"*"'))}
        folders: dict[Path, Folder] = {}
        messages: list[Message] = []
        for raw, attributes, separator in self._rows(self.imap.list('""', '"*"')):
            if self._labels and "\\flagged" in attributes:
                continue  # Starred is a keyword, no Mailbox
            path = self._path(raw, separator)
            # Dovecot's maildir lists a parent that was deleted above its children as if it could be selected.
            selectable = not attributes & {"\\noselect", "\\nonexistent"} and self._opens(raw)
            if selectable:
                messages += self._messages(path)
            folders[path] = Folder(raw, selectable, raw in subscribed, self._server_id(raw) if selectable else None)
        self._leave()
        return Held(folders, tuple(messages))

    def content(self, held: Held, message: Message) -> bytes:
        """All octets of a message."""
        self._examine(held.folders[message.path].raw)
        typ, rows = self.imap.uid("FETCH", str(message.uid), "(BODY.PEEK[])")
        assert typ == "OK" and isinstance(rows[0], tuple), rows
        self._leave()
        return bytes(rows[0][1])

    def _identities(self) -> tuple[str, str]:
        """FETCH item and STATUS item that tell identities; "" where there is none."""
        if "OBJECTID" in self._can:
            return "EMAILID", "MAILBOXID"
        if self._labels:
            return "X-GM-MSGID", ""
        try:
            return ("X-GUID", "X-GUID") if self.imap.status("INBOX", "(X-GUID)")[0] == "OK" else ("", "")
        except imaplib.IMAP4.error:
            return "", ""

    def _prefix(self) -> str:
        if "NAMESPACE" not in self._can:
            return ""
        found = re.match(rb'\(\("((?:[^"\\]|\\.)*)"', self.imap.namespace()[1][0] or b"")
        return found[1].decode() if found else ""

    def _rows(self, answer: tuple[str, list[Any]]) -> Iterable[tuple[str, set[str], str]]:
        """(raw name, attributes, separator) of a LIST or LSUB."""
        self.imap.literal = None  # type: ignore[attr-defined]
        assert answer[0] == "OK", answer
        for row in answer[1]:
            if row is None or row == b")":
                continue
            head, literal = row if isinstance(row, tuple) else (row, None)
            match = re.match(rb'\((.*?)\) (NIL|"\\?[^ ]+") (.*)', head, re.DOTALL)
            assert match, row
            raw = literal if literal is not None else match[3]
            if literal is None and raw.startswith(b'"'):
                raw = re.sub(rb"\\(.)", rb"\1", raw[1:-1])
            separator = "" if match[2] == b"NIL" else match[2].decode().strip('"')[-1]
            yield raw.decode("ascii"), set(match[1].decode().lower().split()), separator

    def _path(self, raw: str, separator: str) -> Path:
        if raw.upper() == "INBOX":
            return ("Inbox",)
        bare = raw.removeprefix(self.prefix)
        return tuple(from_utf7(level) for level in (bare.split(separator) if separator else [bare]))

    def _server_id(self, raw: str) -> str | None:
        if not self._folder_item:
            return None
        _, rows = self.imap.status(quoted(raw), f"({self._folder_item})")
        text = b" ".join(b" ".join(row) if isinstance(row, tuple) else row for row in rows if row)
        found = re.search(rf"{self._folder_item} \(?([^ )]+)".encode(), text)
        return found[1].decode() if found else None

    def _opens(self, raw: str) -> bool:
        return bool(self.imap.select(quoted(raw), readonly=True)[0] == "OK")

    def _examine(self, raw: str) -> None:
        assert self._opens(raw), raw

    def _leave(self) -> None:
        """Have nothing open: a folder that somebody deletes may be one that we look into."""
        if "UNSELECT" in self._can:
            self.imap.unselect()
        else:
            self._examine("INBOX")

    def _messages(self, path: Path) -> list[Message]:
        """Those of the folder that is open."""
        if self.imap.untagged_responses.get("EXISTS", [b"0"])[-1] == b"0":
            return []
        _, rows = self.imap.uid("FETCH", "1:*", f"(FLAGS RFC822.SIZE {self._item} {_TEXT})".replace("  ", " "))
        return [self._message(path, rows, at) for at, row in enumerate(rows) if isinstance(row, tuple)]

    def _message(self, path: Path, rows: list[Any], at: int) -> Message:
        tail = rows[at + 1] if at + 1 < len(rows) and isinstance(rows[at + 1], bytes) else b""
        text = (rows[at][0] + b" " + tail).decode("ascii", "replace")
        header = re.sub(rb"\r\n[ \t]", b" ", rows[at][1])
        subject = re.search(rb"(?im)^subject:([^\r\n]*)", header)
        size, uid = re.search(r"RFC822\.SIZE (\d+)", text), re.search(r"UID (\d+)", text)
        flags = re.search(r"FLAGS \(([^)]*)\)", text)
        assert size and uid and flags, text
        told = re.search(rf"{self._item} \(?([^ )]+)", text) if self._item else None
        identity = told[1] if told else hashlib.sha256(size[1].encode() + header).hexdigest()
        words = set(flags[1].split())
        name = decoded(subject[1].strip()) if subject else ""
        deleted = "\\deleted" in {word.lower() for word in words}
        return Message(path, int(uid[1]), identity, name, keywords(words), int(size[1]), deleted)


def keywords(flags: set[str]) -> frozenset[str]:
    """Flags as keywords: lower case; what begins with a backslash and is not one of RFC 8621's four is none."""
    lower = {flag.lower() for flag in flags}
    return frozenset(SYSTEM.get(flag, flag) for flag in lower if flag in SYSTEM or not flag.startswith("\\"))


def merged(copies: Iterable[Message]) -> frozenset[str]:
    """The keywords of an Email (mail-rules 15): $seen and $draft if all copies have them, others if one has."""
    words = [each.keywords for each in copies]
    both, one = frozenset.intersection(*words), frozenset.union(*words)
    return (one - {"$seen", "$draft"}) | (both & {"$seen", "$draft"})


def decoded(subject: bytes) -> str:
    """A subject as JMAP shows it; encoded words (RFC 2047) of the base64 and UTF-8 kind only."""
    text = subject.decode("utf-8", "replace")
    return re.sub(
        r"=\?utf-8\?b\?([^?]*)\?=", lambda each: base64.b64decode(each[1]).decode(), text, flags=re.IGNORECASE
    )


def quoted(raw: str) -> str:
    return '"' + raw.replace("\\", "\\\\").replace('"', '\\"') + '"'


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
