"""Upstream's folders → Mailboxes: identity, names, parents, roles, rights (mail-rules 6, 25, 26). Pure.

Words: a *box* is our row of a Mailbox, known by ``mid``; a *folder* is what LIST shows, known by its raw ``key``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from jmapplug.backends import Folder, Rights

RIGHT_BITS: tuple[tuple[str, str], ...] = tuple(
    (name, "".join(word.capitalize() if at else word for at, word in enumerate(name.split("_"))))
    for name in Rights.__struct_fields__
)
"""Field of backends.Rights and JMAP's name, in the order of the bits."""
MAY_READ = 1 << Rights.__struct_fields__.index("may_read_items")
MAY_CREATE_CHILD = 1 << Rights.__struct_fields__.index("may_create_child")
_RENAME_DELETE = sum(1 << Rights.__struct_fields__.index(name) for name in ("may_rename", "may_delete"))
_KEYWORD_RIGHTS = sum(1 << Rights.__struct_fields__.index(name) for name in ("may_set_seen", "may_set_keywords"))
_CONTENT_RIGHTS = _KEYWORD_RIGHTS | sum(
    1 << Rights.__struct_fields__.index(name) for name in ("may_add_items", "may_remove_items")
)
RIGHTS_MASK = 511
READ_ONLY, NO_FLAGS = 512, 1024
"""Kept above the rights' bits: what SELECT said of a folder (READ-ONLY, empty PERMANENTFLAGS)."""

SORT_ORDER = {"inbox": 1, "drafts": 2, "sent": 3, "archive": 4, "junk": 5, "trash": 6}
_OTHER_ORDER = 10


class Binding(NamedTuple):
    """A row of ``own.mail_mailbox`` that is not gone."""

    mid: int
    key: bytes
    server_id: str | None
    uidvalidity: int | None
    uidnext: int | None
    role: str | None
    role_source: str | None
    sort_order: int | None


class Intent(NamedTuple):
    """A row of ``own.mail_folder_intent``: what we began to do with a folder (``own_2.sql``)."""

    number: int
    kind: str
    mid: int | None
    old_key: bytes | None
    parent: bytes | None
    name: str | None
    role: str | None
    at: int
    wish_mid: int | None
    wish_name: str | None


class Box(NamedTuple):
    """A Mailbox as it should be. ``mid`` 0: a new one. ``parent`` is the key of the level above."""

    mid: int
    key: bytes
    server_id: str | None
    parent: bytes | None
    name: str
    role: str | None
    role_source: str | None
    sort_order: int
    rights: int
    subscribed: bool
    selectable: bool


def with_parents(listing: Sequence[Folder]) -> list[Folder]:
    """The listing and every level above that it does not show, as folders that only hold children."""
    found = {folder.key: folder for folder in listing}
    for folder in listing:
        child = folder
        while child.parent is not None and child.parent not in found and len(child.path) > 1:
            cut = child.key[len(child.parent) : len(child.parent) + 1]
            above = child.parent.rpartition(cut)[0] if cut and len(child.path) > 2 else b""
            child = Folder(child.parent, child.path[:-1], above or None, selectable=False, exists=False)
            found[child.key] = child
    return list(found.values())


def match(listing: Iterable[Folder], known: Sequence[Binding], renames: Mapping[bytes, int]) -> dict[bytes, int]:
    """Key → mid of folders that are known boxes. A server's id decides, then the name, then OLDNAME and ``renames``."""
    found: dict[bytes, int] = {}
    by_id = {box.server_id: box for box in known if box.server_id}
    by_key = {box.key: box for box in known}
    free = {box.mid for box in known}

    def take(folder: Folder, box: Binding | None) -> None:
        if box is not None and box.mid in free and folder.key not in found:
            found[folder.key] = box.mid
            free.discard(box.mid)

    folders = list(listing)
    for folder in folders:
        # RENAME INBOX moves its messages and leaves INBOX what it is (mail-rules 25).
        if folder.role == "inbox":
            take(folder, by_key.get(folder.key))
    for folder in folders:
        if folder.server_id:
            take(folder, by_id.get(folder.server_id))
    for folder in folders:
        box = by_key.get(folder.key)
        # Same name, another id: that folder was removed and made anew.
        if box is not None and not (folder.server_id and box.server_id and folder.server_id != box.server_id):
            take(folder, box)
    by_mid = {box.mid: box for box in known}
    for folder in folders:
        if folder.old_key is not None:
            take(folder, by_key.get(folder.old_key))
        take(folder, by_mid.get(renames.get(folder.key, 0)))
    return found


def rename_candidates(listing: Iterable[Folder], known: Sequence[Binding]) -> list[tuple[Folder, int]]:
    """(folder, mid) pairs that look like a rename seen from outside: to be proved by samples (mail-rules 6)."""
    folders = list(listing)
    matched = match(folders, known, {})
    used = set(matched.values())
    lost = [box for box in known if box.mid not in used and box.uidvalidity is not None]
    return [
        (folder, box.mid)
        for folder in folders
        for box in lost
        if folder.key not in matched
        and folder.selectable
        and folder.uidvalidity == box.uidvalidity
        and (folder.uidnext or 0) >= (box.uidnext or 0)
        and not (folder.server_id and box.server_id)
    ]


def own_renames(listing: Sequence[Folder], known: Sequence[Binding], intents: Iterable[Intent]) -> dict[bytes, int]:
    """Key → mid of folders that we renamed without having noted it (killed in between), and of all below them."""
    begun = [one for one in intents if one.kind == "rename" and one.old_key is not None]
    if not begun:
        return {}
    folders = with_parents(listing)
    parents = {folder.key: folder.parent for folder in folders}
    by_key = {box.key: box.mid for box in known}
    found: dict[bytes, int] = {}
    for intent in begun:
        old = intent.old_key or b""
        moved = [one.key for one in folders if (one.parent, shown_name(one)) == (intent.parent, intent.name)]
        for key in moved[:1] if old not in parents else ():
            for folder in folders:
                if key in _lineage(folder.key, parents):
                    mid = intent.mid if folder.key == key else by_key.get(old + folder.key[len(key) :])
                    found |= {} if mid is None else {folder.key: mid}
    return found


def _lineage(key: bytes | None, parents: Mapping[bytes, bytes | None]) -> list[bytes]:
    line: list[bytes] = []
    while key is not None and key not in line:
        line.append(key)
        key = parents.get(key)
    return line


def own_creations(boxes: Sequence[Box], intents: Iterable[Intent]) -> list[Box]:
    """New boxes that we made without having noted it get the role that they were made for."""
    begun = {(one.parent, one.name): one for one in intents if one.kind == "create"}
    taken = {box.role for box in boxes}
    found = []
    for box in boxes:
        intent = begun.get((box.parent, box.name)) if not box.mid else None
        if intent is not None and intent.role and intent.role not in taken:
            taken.add(intent.role)
            box = box._replace(role=intent.role, role_source="client", sort_order=default_order(intent.role))
        found.append(box)
    return found


def plan_boxes(listing: Sequence[Folder], known: Sequence[Binding], renames: Mapping[bytes, int]) -> list[Box]:
    """Every Mailbox as it should be, new ones with mid 0, in the order of the listing (parents added)."""
    folders = with_parents(listing)
    matched = match(folders, known, renames)
    bindings = {box.mid: box for box in known}
    bound = {folder.key: bindings[matched[folder.key]] for folder in folders if folder.key in matched}
    roles = _roles(folders, bound)
    names = _names(folders, matched)
    boxes = []
    for folder in folders:
        old = bound.get(folder.key)
        role, source = roles.get(folder.key, (None, None))
        order = old.sort_order if old is not None and old.sort_order is not None else default_order(role)
        boxes.append(
            Box(
                old.mid if old else 0,
                folder.key,
                folder.server_id or (old.server_id if old else None),
                folder.parent,
                names[folder.key],
                role,
                source,
                order,
                rights_of(folder, role == "inbox"),
                # Servers keep no subscription of it, and a client that shows subscribed ones only must show it.
                folder.subscribed or role == "inbox",
                folder.selectable and folder.exists,
            )
        )
    return boxes


def default_order(role: str | None) -> int:
    """sortOrder where no client has given one."""
    return SORT_ORDER.get(role or "", _OTHER_ORDER)


def _roles(folders: Sequence[Folder], bound: Mapping[bytes, Binding]) -> dict[bytes, tuple[str | None, str | None]]:
    """Bindings first, then what the server states, then names; no role twice, no Mailbox with two (mail-rules 26).

    A client's "no role" is a binding too.
    """
    found: dict[bytes, tuple[str | None, str | None]] = {}
    taken: set[str] = set()
    for key, box in bound.items():
        if box.role and box.role not in taken:
            found[key] = (box.role, box.role_source)
            taken.add(box.role)
        elif box.role is None and box.role_source == "client":
            found[key] = (None, "client")
    for source in ("server", "name"):
        for folder in folders:
            role = folder.role if source == "server" else folder.role_by_name
            if role and role not in taken and folder.key not in found and folder.selectable:
                found[folder.key] = (role, source)
                taken.add(role)
    return found


def _names(folders: Sequence[Folder], matched: Mapping[bytes, int]) -> dict[bytes, str]:
    """NFC names; of siblings whose names collide all but the oldest get a suffix that stays (mail-rules 25)."""
    names: dict[bytes, str] = {}
    used: set[tuple[bytes | None, str]] = set()
    unknown = 1 << 62
    for folder in sorted(folders, key=lambda one: (matched.get(one.key, unknown), one.key)):
        name = wanted = shown_name(folder)
        count = 2
        while (folder.parent, name) in used:
            # The raw name decides, so the suffix is the same after a lost cache too.
            name = f"{wanted} ({_tag(folder.key, count)})"
            count += 1
        used.add((folder.parent, name))
        names[folder.key] = name
    return names


def _tag(key: bytes, count: int) -> str:
    total = 0
    for octet in key:
        total = (total * 131 + octet) % 9973
    return f"{total + count - 2}"


def shown_name(folder: Folder) -> str:
    """The last level, in Net-Unicode (RFC 5198): NFC, no control characters, never empty. INBOX is "Inbox"."""
    if len(folder.path) == 1 and (folder.role == "inbox" or folder.path[0].upper() == "INBOX"):
        return "Inbox"
    last = folder.path[-1] if folder.path else ""
    clean = "".join("�" if unicodedata.category(char) in ("Cc", "Cs") else char for char in last)
    return unicodedata.normalize("NFC", clean)[:255] or "�"


def rights_of(folder: Folder, inbox: bool) -> int:
    """The bits of myRights. What LIST does not show can only have children (mail-rules 25)."""
    given = msgspec.structs.astuple(folder.rights)
    bits = sum(1 << at for at, allowed in enumerate(given) if allowed)
    if not folder.exists:
        return bits & MAY_CREATE_CHILD
    if not folder.selectable:
        bits &= MAY_CREATE_CHILD | _RENAME_DELETE
    return bits & ~_RENAME_DELETE if inbox else bits


def selected_rights(bits: int, marks: int) -> int:
    """Rights with what SELECT said: ``marks`` of READ_ONLY and NO_FLAGS (mail-rules 24)."""
    if marks & READ_ONLY:
        bits &= ~_CONTENT_RIGHTS
    if marks & NO_FLAGS:
        bits &= ~_KEYWORD_RIGHTS
    return bits & RIGHTS_MASK | marks


def is_withheld(folder: Folder, stored: int) -> bool:
    """Whether SELECT said less (``stored``: rights with marks) than the rights are now: it has to be asked again."""
    marks = stored & (READ_ONLY | NO_FLAGS)
    given = rights_of(folder, folder.role == "inbox")
    return bool(marks) and selected_rights(given, marks) & RIGHTS_MASK != given


def rights_json(bits: int) -> dict[str, bool]:
    """MailboxRights of RFC 8621 §2."""
    return {jmap: bool(bits >> at & 1) for at, (_, jmap) in enumerate(RIGHT_BITS)}
