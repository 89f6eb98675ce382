"""From the rows of LIST, STATUS, LSUB, NAMESPACE and MYRIGHTS to Folders. Pure: nothing here goes to the network.

Words: *key* is the raw mailbox name as the server spells it, only INBOX always in capitals (RFC 9051 §5.1); a *level*
is one step of its path. Where all personal mail lies under one prefix ("INBOX." of Courier), that prefix is the
server's habit and no Mailbox: ``INBOX.Sent`` is shown as ``Sent``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from jmapplug.backends import Folder, Rights
from jmapplug_imap import roles
from jmapplug_imap.protocol.responses import Listed, MailboxStatus, Namespace, Namespaces

INBOX = b"INBOX"
MAX_LEVELS = 64  # deeper names come from an attacker or a broken server; what is below stays in one level
_SHIFTED = re.compile(rb"&[A-Za-z0-9+,]*-|.", re.DOTALL)  # modified UTF-7: a separator inside a shift is no separator
_ALPHABET = frozenset(b"&+,-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_NONE = Rights(False, False, False, False, False, False, False, False, False)
_ALL = "lrswipkxtecda"


@dataclass(frozen=True, slots=True)
class Prefixes:
    """RFC 2342: the prefixes of what is ours, and of other users' and shared folders."""

    personal: tuple[bytes, ...] = (b"",)
    foreign: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, spaces: Namespaces | None) -> Prefixes:
        if spaces is None or not spaces.personal:
            return cls()
        return cls(_whole(spaces.personal), _whole((*spaces.others, *spaces.shared)))

    @property
    def stripped(self) -> bytes:
        """The prefix that hides: the only personal one."""
        return self.personal[0] if len(self.personal) == 1 else b""

    def is_foreign(self, key: bytes) -> bool:
        """Whether a folder lies under another user's or a shared prefix ("Other Users/" itself too)."""
        if key == INBOX:
            return False
        ours = max((len(p) for p in self.personal if key.startswith(p)), default=-1)
        theirs = max((len(p) for p in self.foreign if p and (key.startswith(p) or key == p[:-1])), default=-1)
        return theirs > ours or (b"" in self.foreign and ours < 0)


def _whole(spaces: Iterable[Namespace]) -> tuple[bytes, ...]:
    """Their prefixes, each once. A prefix that is a level by itself ("Public") gets the separator that it lacks."""
    prefixes = []
    for space in spaces:
        prefix, separator = space.prefix, (space.separator or "").encode()
        # RFC 2342 §5: "~" and "#" are followed by a name at once.
        bare = prefix and not prefix.endswith((separator or prefix, b"~", b"#"))
        prefixes.append(prefix + separator if bare else prefix)
    return tuple(dict.fromkeys(prefixes))


@dataclass(frozen=True, slots=True)
class Listing:
    """All that one look at the folders has told. ``subscribed`` None: ``\\\\subscribed`` in the rows says it."""

    rows: tuple[Listed, ...]
    status: Mapping[bytes, MailboxStatus] = field(default_factory=dict)
    prefixes: Prefixes = Prefixes()
    subscribed: frozenset[bytes] | None = None
    rights: Mapping[bytes, str] = field(default_factory=dict)


def canonical(name: bytes) -> bytes:
    """The key of a raw name: INBOX in capitals, everything else as it is."""
    return INBOX if name.upper() == INBOX else name


def split(name: bytes, separator: bytes) -> list[bytes]:
    """The levels of a raw name, at most MAX_LEVELS."""
    if not separator:
        return [name]
    if separator[0] not in _ALPHABET:
        return name.split(separator, MAX_LEVELS - 1)
    levels: list[bytes] = [b""]
    for piece in _SHIFTED.findall(name):
        if piece == separator and len(levels) < MAX_LEVELS:
            levels.append(b"")
        else:
            levels[-1] += piece
    return levels


def rights_of(letters: str | None, attributes: frozenset[str], separator: bytes) -> Rights:
    """RFC 8621 §2 MailboxRights from MYRIGHTS (RFC 4314; RFC 2086's ``c`` and ``d`` too), None = no ACL here.

    What cannot be read takes no Emails either: they would be nowhere to be seen, and no copy could be confirmed.
    """
    r = frozenset(_ALL if letters is None else letters)
    selectable = "\\noselect" not in attributes and "\\nonexistent" not in attributes
    readable = selectable and {"l", "r"} <= r
    old = "d" in r and not r & frozenset("texk")  # RFC 2086: d covered STORE \\Deleted, EXPUNGE and DELETE
    return Rights(
        may_read_items=readable,
        may_add_items=readable and "i" in r,
        may_remove_items=readable and (old or {"t", "e"} <= r),
        may_set_seen=readable and "s" in r,
        may_set_keywords=readable and "w" in r,
        may_create_child=bool(separator) and "\\noinferiors" not in attributes and bool(r & frozenset("kc")),
        may_rename="x" in r or old,
        may_delete="x" in r or old,
        may_submit=selectable and "p" in r,
    )


def build(listing: Listing, decode: Callable[[bytes], str]) -> list[Folder]:
    """The folder tree, parents before children, siblings by key. ``decode`` turns one raw level into text."""
    rows = _merged(listing.rows)
    folders = {key: _folder(key, row, listing, decode) for key, row in rows.items()}
    for key in list(folders):
        _complete(folders, key, _octets(rows[key]), decode, listing.prefixes)
    return sorted(_with_roles(folders, rows, listing.prefixes), key=lambda f: (len(f.path), f.key != INBOX, f.key))


def _merged(rows: Iterable[Listed]) -> dict[bytes, Listed]:
    """One row a key. Servers repeat rows (INBOX in two namespaces), and show parents as ``name/``, not selectable."""
    merged: dict[bytes, Listed] = {}
    for row in rows:
        name, separator = row.key, _octets(row)
        if separator and name.endswith(separator) and row.attributes & {"\\noselect", "\\nonexistent"}:
            name = name.rstrip(separator)
        key = canonical(name)
        if not key:
            continue
        known = merged.get(key)
        attributes = row.attributes | known.attributes if known else row.attributes
        if known and "\\noselect" not in (known.attributes & row.attributes):
            attributes -= {"\\noselect", "\\nonexistent"}
        old = row.old_key or (known.old_key if known else None)
        merged[key] = Listed(key, row.separator, attributes, old)
    return merged


def _place(key: bytes, separator: bytes, prefix: bytes) -> tuple[list[bytes], bytes | None]:
    """(raw levels, parent's key). The personal prefix (RFC 2342 §5) is stripped: what it leaves is at the top."""
    inbox = prefix[:5].upper() == INBOX and key[:5].upper() == INBOX
    hidden = len(prefix) if prefix and (key.startswith(prefix) or (inbox and key[5:].startswith(prefix[5:]))) else 0
    levels = split(key[hidden:], separator) if len(key) > hidden else [key]
    parent = key[: len(key) - len(levels[-1]) - len(separator)] if len(levels) > 1 else b""
    while len(levels) > 1 and not levels[0]:  # "/a" hangs below nothing
        levels = levels[1:]
    return levels, canonical(parent) if len(levels) > 1 and parent else None


def _folder(key: bytes, row: Listed, listing: Listing, decode: Callable[[bytes], str]) -> Folder:
    attributes, separator = row.attributes, _octets(row)
    exists = "\\nonexistent" not in attributes
    selectable = exists and "\\noselect" not in attributes
    status = listing.status[key].items if selectable and key in listing.status else {}
    if listing.subscribed is None:
        subscribed = "\\subscribed" in attributes
    else:
        subscribed = key in listing.subscribed
    levels, parent = _place(key, separator, listing.prefixes.stripped)
    rights = rights_of(listing.rights.get(key), attributes, separator)
    if not selectable and listing.prefixes.is_foreign(key):
        rights = _NONE  # nobody tells the rights of a mere level (MYRIGHTS is refused), and it is not ours
    if key == INBOX:  # RFC 9051 §6.3.5, §6.3.6: INBOX cannot be deleted, and renaming it moves its messages instead
        child = rights.may_create_child and not listing.prefixes.stripped.upper().startswith(INBOX)
        rights = msgspec.structs.replace(rights, may_rename=False, may_delete=False, may_create_child=child)
    return Folder(
        key=key,
        path=tuple(decode(level) or "-" for level in levels),
        parent=parent,
        selectable=selectable,
        exists=exists,
        subscribed=subscribed,
        server_id=_text(status.get("MAILBOXID") or status.get("X-GUID")),
        old_key=None if row.old_key is None else canonical(row.old_key),
        rights=rights,
        uidvalidity=_number(status.get("UIDVALIDITY")),
        uidnext=_number(status.get("UIDNEXT")),
        highestmodseq=_number(status.get("HIGHESTMODSEQ")),
        messages=_number(status.get("MESSAGES")),
        unseen=_number(status.get("UNSEEN")),
    )


def _octets(row: Listed) -> bytes:
    return (row.separator or "").encode()


def _number(value: int | str | None) -> int | None:
    return value if isinstance(value, int) else None


def _text(value: int | str | None) -> str | None:
    return value if isinstance(value, str) and value else None


def _complete(
    folders: dict[bytes, Folder], key: bytes, separator: bytes, decode: Callable[[bytes], str], prefixes: Prefixes
) -> None:
    """Adds the levels above ``key`` that LIST does not show (mail-rules 25: mayCreateChild only, where it is ours)."""
    parent = folders[key].parent
    while parent and parent not in folders:
        levels, above = _place(parent, separator, prefixes.stripped)
        folders[parent] = Folder(
            key=parent,
            path=tuple(decode(level) or "-" for level in levels),
            parent=above,
            selectable=False,
            exists=False,
            subscribed=False,
            rights=msgspec.structs.replace(_NONE, may_create_child=not prefixes.is_foreign(parent)),
        )
        parent = above


def _with_roles(folders: dict[bytes, Folder], rows: Mapping[bytes, Listed], spaces: Prefixes) -> list[Folder]:
    """Roles are given to selectable folders of our own; another user's Trash is not ours."""
    candidates: list[tuple[bytes, str | None, tuple[str, ...]]] = []
    for key, folder in folders.items():
        if key == INBOX:
            candidates.append((key, "inbox", folder.path))
        elif folder.selectable and not spaces.is_foreign(key):
            role = roles.stated(rows[key].attributes)
            candidates.append((key, None if role == "inbox" else role, folder.path))
    found = roles.assign(candidates)
    return [
        msgspec.structs.replace(folder, role=found[key][0], role_by_name=found[key][1]) if key in found else folder
        for key, folder in folders.items()
    ]
