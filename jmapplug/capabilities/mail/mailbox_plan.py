"""Mailbox/set, decided purely: what a record asks for, and whether the tree of Mailboxes allows it (RFC 8621 §2, §2.5).

Words: a record is *blocked* when the tree as it is now forbids it, and another record of the same call may change that
(RFC 8620 §5.3: only the final state must be valid). It waits, and gets its error when nothing moves any more.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jmapplug.backends import Rights
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.jmap import patch as patches
from jmapplug.jmap.checks import is_bool, nullable
from jmapplug.jmap.errors import SetError
from jmapplug.jmap.sets import is_reference

MAX_MAILBOX_NAME = 200
"""Octets; RFC 8621 §1.3.1 wants 100 at least, and IMAP servers take 255 of modified UTF-7, which is longer."""
ROLES = frozenset(
    {
        "all", "archive", "drafts", "flagged", "important", "inbox", "junk", "memos", "scheduled", "sent", "snoozed",
        "trash",
    }
)  # fmt: skip
"""RFC 8621 §2: attributes of the IANA registry "IMAP Mailbox Name Attributes" that tell a purpose, in lower case."""
_NOT_NET_UNICODE = ("Cc", "Cs", "Zl", "Zp")
_RIGHT = {name: 1 << at for at, name in enumerate(Rights.__struct_fields__)}


def may(row: Row, right: str) -> bool:
    """``right``: a field of backends.Rights."""
    return bool(row.rights & _RIGHT[right])


def is_name(value: Any) -> bool:
    """RFC 8621 §2: Net-Unicode (RFC 5198) of at least one character, no control characters, of a limited size."""
    if not isinstance(value, str) or not value.strip():
        return False
    if any(unicodedata.category(char) in _NOT_NET_UNICODE for char in value):
        return False
    return len(unicodedata.normalize("NFC", value).encode()) <= MAX_MAILBOX_NAME


def _is_role(value: Any) -> bool:
    return isinstance(value, str) and value in ROLES


def _is_sort_order(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "name": is_name,
    "parentId": nullable(is_reference),
    "role": nullable(_is_role),
    "sortOrder": nullable(_is_sort_order),
    "isSubscribed": is_bool,
}
_DEFAULTS: dict[str, Any] = {"parentId": None, "role": None, "sortOrder": None}
"""What null means in a patch; sortOrder null is the order that the role gives."""


class Blocked(Exception):
    """Not now. ``refusal``: the SetError if that never changes; ``by``: the mid of the Mailbox that is in the way.

    ``wish``: the parent's mid and the name that an update wants and another has.
    """

    def __init__(self, refusal: SetError, by: int = 0, wish: tuple[int | None, str] | None = None) -> None:
        super().__init__(refusal.type)
        self.refusal = refusal
        self.by = by
        self.wish = wish


def invalid(why: str, *properties: str) -> SetError:
    return SetError("invalidProperties", why, list(properties))


class Wanted(NamedTuple):
    """A Mailbox to create. ``parent``: an Id, "#" and a creation id, or None."""

    name: str
    parent: str | None
    role: str | None
    sort_order: int | None
    subscribed: bool


def read_create(record: Mapping[str, Any]) -> Wanted:
    """Raises SetError invalidProperties, naming all that are wrong; server-set ones must not be given at all."""
    wrong = [name for name, value in record.items() if name not in _CHECKS or not _CHECKS[name](value)]
    if "name" not in record:
        wrong.append("name")
    if wrong:
        raise invalid("These properties are wrong, or only the server sets them", *wrong)
    return Wanted(
        unicodedata.normalize("NFC", record["name"]),
        record.get("parentId"),
        record.get("role"),
        record.get("sortOrder"),
        record.get("isSubscribed", True),
    )


def read_update(current: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that shall have other values than ``current``, the whole Mailbox as answered.

    Raises SetError invalidPatch, invalidProperties. Server-set properties may be there with the value that they have.
    """
    patched: dict[str, Any] = patches.apply(current, patch, _DEFAULTS)
    wrong = []
    changes: dict[str, Any] = {}
    for name in dict.fromkeys((*current, *patched)):
        value: Any = patched.get(name)
        if name in _CHECKS and name in patched and _CHECKS[name](value):
            value = unicodedata.normalize("NFC", value) if name == "name" else value
            if value != current[name]:
                changes[name] = value
        elif name not in patched or name not in current or value != current[name]:
            wrong.append(name)
    if wrong:
        raise invalid("These properties are wrong, or only the server sets them", *wrong)
    return changes


class Tree:
    """The Mailboxes as they are now. ``put`` and ``drop`` keep it so during a call."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.by_mid: dict[int, Row] = {}
        self.by_id: dict[str, Row] = {}
        self._places: dict[tuple[int | None, str], int] = {}
        self._roles: dict[str, int] = {}
        self._children: dict[int | None, set[int]] = {}
        self.parked: set[int] = set()
        for row in rows:
            self.put(row)

    def put(self, row: Row) -> None:
        """A Mailbox that is new, or is another one now."""
        self._remove(row.mid)
        self.by_mid[row.mid] = self.by_id[row.id] = row
        self._children.setdefault(row.parent, set()).add(row.mid)
        if row.mid not in self.parked:
            self._places[_place(row.parent, row.name)] = row.mid
        if row.role is not None:
            self._roles[row.role] = row.mid

    def drop(self, mid: int) -> None:
        self._remove(mid)

    def park(self, row: Row) -> None:
        """Its name is free for another."""
        self.parked.add(row.mid)
        self.put(row)

    def _remove(self, mid: int) -> None:
        old = self.by_mid.pop(mid, None)
        if old is None:
            return
        self.by_id.pop(old.id, None)
        self._children.get(old.parent, set()).discard(mid)
        if self._places.get(_place(old.parent, old.name)) == mid:
            del self._places[_place(old.parent, old.name)]
        if old.role is not None and self._roles.get(old.role) == mid:
            del self._roles[old.role]

    def at(self, parent: int | None, name: str) -> Row | None:
        mid = self._places.get(_place(parent, name))
        return None if mid is None else self.by_mid[mid]

    def with_role(self, role: str) -> Row | None:
        mid = self._roles.get(role)
        return None if mid is None else self.by_mid[mid]

    def children(self, mid: int) -> list[Row]:
        return [self.by_mid[one] for one in sorted(self._children.get(mid, ()))]

    def below(self, mid: int) -> list[Row]:
        """Every descendant."""
        found: list[Row] = []
        left = self.children(mid)
        while left:
            row = left.pop()
            found.append(row)
            left += self.children(row.mid)
        return found

    def lineage(self, mid: int | None) -> list[int]:
        """The Mailbox and all above it."""
        line: list[int] = []
        while mid is not None and mid in self.by_mid and mid not in line:
            line.append(mid)
            mid = self.by_mid[mid].parent
        return line


def _place(parent: int | None, name: str) -> tuple[int | None, str]:
    # RFC 9051 §5.1: INBOX is one name in any case, and we show it as "Inbox".
    return (parent, "Inbox" if parent is None and name.upper() == "INBOX" else name)


def check_create(tree: Tree, wanted: Wanted, parent: Row | None) -> None:
    """Raises SetError forbidden, invalidProperties; Blocked alreadyExists (the name), invalidProperties (the role)."""
    _check_parent(parent)
    other = tree.at(parent.mid if parent is not None else None, wanted.name)
    if other is not None:
        # RFC 8620 §5.4's alreadyExists: what the clarifications of RFC 8621 §2 ask for.
        raise Blocked(SetError("alreadyExists", "A sibling has this name", existingId=other.id), other.mid)
    _check_role(tree, wanted.role)


def check_update(tree: Tree, row: Row, changes: Mapping[str, Any], parent: Row | None) -> None:
    """``parent``: that which it shall have. Raises SetError forbidden, invalidProperties; Blocked invalidProperties."""
    renamed = "name" in changes or "parentId" in changes or row.mid in tree.parked
    if renamed and not may(row, "may_rename"):
        raise SetError("forbidden", "This Mailbox may not be renamed or moved")
    if "parentId" in changes:
        _check_parent(parent)
    if changes.get("isSubscribed") is False and row.role == "inbox":
        raise SetError("forbidden", "The inbox is always shown")
    if "role" in changes:
        if row.role == "inbox":
            raise invalid("The inbox stays the inbox", "role")
        _check_role(tree, changes["role"], row.mid)
    if renamed:
        # The name comes last: one that is put aside for it (mailbox_set) waits for nothing else.
        _check_place(tree, row, parent, changes.get("name", row.name))


def _check_place(tree: Tree, row: Row, parent: Row | None, name: str) -> None:
    if parent is not None and row.mid in tree.lineage(parent.mid):
        raise Blocked(invalid("A Mailbox cannot be below itself", "parentId"), parent.mid)
    wish = (parent.mid if parent is not None else None, name)
    other = tree.at(*wish)
    if other is not None and other.mid != row.mid:
        raise Blocked(invalid("A sibling has this name", "name"), other.mid, wish)


def _check_parent(parent: Row | None) -> None:
    if parent is not None and not may(parent, "may_create_child"):
        raise SetError("forbidden", "The parent Mailbox takes no children")


def _check_role(tree: Tree, role: str | None, mid: int = 0) -> None:
    """RFC 8621 §2: no two Mailboxes with the same role (mail-rules 26). ``mid``: who is to have it."""
    if role == "inbox":
        raise invalid("Only INBOX is the inbox", "role")
    holder = tree.with_role(role) if role is not None else None
    if holder is not None and holder.mid != mid:
        raise Blocked(invalid("Another Mailbox has this role", "role"), holder.mid)


def check_destroy(tree: Tree, row: Row) -> None:
    """Raises SetError forbidden; Blocked mailboxHasChild."""
    if not may(row, "may_delete"):
        raise SetError("forbidden", "This Mailbox may not be destroyed")
    child = next(iter(tree.children(row.mid)), None)
    if child is not None:
        raise Blocked(SetError("mailboxHasChild", "Its children have to go first"), child.mid)


def in_a_circle(waiting: Mapping[int, int]) -> int | None:
    """A mid from which the way along ``waiting`` (mid → mid that is in its way) comes back; None where none does."""
    done: set[int] = set()
    for start in waiting:
        path: list[int] = []
        at = start
        while at in waiting and at not in done:
            done.add(at)
            path.append(at)
            at = waiting[at]
        if at in path:
            return at
    return None
