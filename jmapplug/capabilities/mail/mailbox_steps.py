"""The steps of Mailbox/set: each one change upstream, then the same change here, with a note of the intent before.

Words: an *intent* is a row that says what was about to happen, so that a pass after a crash knows whose the folder is
(mail-rules 6, 28). A *parked* Mailbox has a passing name upstream, because two of a call swap theirs. *made*: a folder
that we made or renamed in the last day; a listing without it means nothing.

Every step is called under ``Writes.tree``.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jmapplug.backends import Folder, MailSource, Rights
from jmapplug.capabilities.mail.apply import resettle, settling_folders
from jmapplug.capabilities.mail.folders import Binding, Intent, default_order, rights_of
from jmapplug.capabilities.mail.mailbox_plan import Tree, Wanted
from jmapplug.capabilities.mail.plan import slices
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store import tree as tree_sql
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.errors import UpstreamError
from jmapplug.store.account import Change, Store
from jmapplug.store.pace import breathe

log = logging.getLogger("jmapplug.capabilities.mail")

_PASSING = re.compile(r"moving-[0-9a-f]{12}")
MADE_LATELY = 86_400
"""Seconds. Dovecot's index of its list may lose a new folder at any later RENAME or DELETE (seen in 2.3.19)."""
SETTLE = 100
UNBIND = 500


class Steps:
    """One call's steps. ``tree`` is kept as the store is."""

    def __init__(self, store: Store, source: MailSource) -> None:
        self.store = store
        self.source = source
        self.writes = writes_of(store)
        self.look()

    def look(self) -> None:
        """Take the tree from the store."""
        # What is bound no more is gone upstream; the next pass takes it away (mail-rules 19).
        bound = {box.mid for box in boxes_sql.bindings(self.store)}
        self.tree = Tree(row for row in boxes_sql.rows(self.store) if row.mid in bound)

    # --- creating --------------------------------------------------------------------------------------------------

    def create(self, parent: Row | None, wanted: Wanted, source_of_role: str | None) -> int:
        """The mid of the new Mailbox. Raises UpstreamError; then nothing was made, or a pass finds it."""
        above = parent.key if parent is not None else None
        done = tree_sql.begin(self.store, "create", parent=above, name=wanted.name, role=wanted.role)
        try:
            key = self._made(above, wanted)
        except UpstreamError as error:
            self._forget(done, error)
            raise
        subscribed = wanted.subscribed or not self._unsubscribed(key)
        mid = tree_sql.bind_new(self.store, done, key, (wanted.role, source_of_role), wanted.sort_order)
        values = {
            "key": key,
            "name": wanted.name,
            "parent": parent.mid if parent is not None else None,
            "role": wanted.role,
            "sort_order": default_order(wanted.role) if wanted.sort_order is None else wanted.sort_order,
            "rights": rights_of(Folder(key, (wanted.name,)), False),
            "subscribed": int(subscribed),
            "selectable": 1,
        }
        self._commit(lambda change: tree_sql.show_new(change, self.store, mid, values), mid)
        return mid

    def _made(self, parent: bytes | None, wanted: Wanted) -> bytes:
        try:
            return self.source.create_folder(parent, wanted.name, wanted.role)
        except UpstreamError as error:
            if wanted.role is None or error.code != "useattr":
                raise
            # RFC 6154 §3: no such use here. The role is ours alone then (mail-rules 26).
            return self.source.create_folder(parent, wanted.name)

    def _unsubscribed(self, key: bytes) -> bool:
        """Folders are subscribed when they are made; this one was not to be. A refusal shows in the answer."""
        try:
            self.source.subscribe_folder(key, False)
        except UpstreamError as error:
            log.info("a new folder stays subscribed: %s", error)
            return False
        return True

    # --- changing --------------------------------------------------------------------------------------------------

    def update(self, row: Row, changes: Mapping[str, Any], parent: Row | None) -> None:
        """All of ``changes`` or nothing (mail-rules 27): the subscription first, which is easily taken back."""
        subscribed = changes.get("isSubscribed", bool(row.subscribed))
        if subscribed != bool(row.subscribed):
            self.source.subscribe_folder(row.key, subscribed)
        values: dict[str, Any] = {"subscribed": int(subscribed)}
        try:
            if "name" in changes or "parentId" in changes or row.mid in self.tree.parked:
                name = changes.get("name", row.name)
                self.rename(row, parent, name)
                self.tree.parked.discard(row.mid)
                values |= {"name": name, "parent": parent.mid if parent is not None else None}
        except UpstreamError:
            if subscribed != bool(row.subscribed):
                self._resubscribe(row)
            raise
        values |= self._own(row, changes)
        self._commit(lambda change: tree_sql.show(change, row.mid, values), row.mid)

    def _resubscribe(self, row: Row) -> None:
        try:
            self.source.subscribe_folder(row.key, bool(row.subscribed))
        except UpstreamError as error:
            log.info("a subscription could not be taken back: %s", error)

    def _own(self, row: Row, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What is ours alone: role (mail-rules 26: the client's wins here) and order; the cache's values of it."""
        own: dict[str, Any] = {}
        if "role" in changes:
            own |= {"role": changes["role"], "role_source": "client"}
        if "sortOrder" in changes:
            own["sort_order"] = changes["sortOrder"]
        tree_sql.set_own(self.store, row.mid, own)
        if not own:
            return {}
        role = own.get("role", row.role)
        box = next((one for one in boxes_sql.bindings(self.store) if one.mid == row.mid), None)
        order = box.sort_order if box is not None else None
        return {"role": role, "sort_order": default_order(role) if order is None else order}

    def role_source(self, mid: int) -> str | None:
        """Who gave the box its role."""
        return next((one.role_source for one in boxes_sql.bindings(self.store) if one.mid == mid), None)

    def set_role(self, mid: int, role: str | None, source: str | None) -> None:
        """The role alone."""
        tree_sql.set_own(self.store, mid, {"role": role, "role_source": source})
        self._commit(lambda change: tree_sql.show(change, mid, {"role": role}), mid)

    def rename(self, row: Row, parent: Row | None, name: str, *, parking: bool = False) -> None:
        """RENAME, and the keys of all below. What clients see of it is the caller's to show. Raises UpstreamError."""
        above = parent.key if parent is not None else None
        done = tree_sql.begin(self.store, "rename", mid=row.mid, old_key=row.key, parent=above, name=name)
        try:
            key = self.source.rename_folder(row.key, above, name)
        except UpstreamError as error:
            self._forget(done, error)
            raise
        keys = {row.mid: key}
        for below in self.tree.below(row.mid):
            # Whatever the delimiter is, it stands in what follows the parent's key.
            keys[below.mid] = key + below.key[len(row.key) :]
        tree_sql.rebind(self.store, done, row.mid, keys, parking=parking)
        self._commit(lambda change: tree_sql.rekey(change, keys), *keys)

    # --- two that swap their names ---------------------------------------------------------------------------------

    def park(self, row: Row, wish: tuple[int | None, str]) -> None:
        """Give a Mailbox a passing name; clients see the old one all the time. Raises UpstreamError.

        ``wish``: the parent's mid and the name that it is to get at last.
        """
        parent = self.tree.by_mid.get(row.parent or 0)
        number = tree_sql.begin(self.store, "park", mid=row.mid, name=row.name, wish_mid=wish[0], wish_name=wish[1])
        try:
            self.rename(row, parent, f"moving-{secrets.token_hex(6)}", parking=True)
        except UpstreamError as error:
            self._forget(number, error)
            raise
        self.tree.park(self.tree.by_mid[row.mid])

    # --- destroying ------------------------------------------------------------------------------------------------

    def holds_mail(self, row: Row) -> bool:
        """Whether an Email is here or, as the server says at this moment, a message that we do not know yet.

        Messages flagged \\Deleted do not count (mail-rules 13). Raises UpstreamError.
        """
        if row.total_emails:
            return True
        if not row.selectable:
            return False
        listed = self.source.changes(row.key, None, lambda: ()).new
        return any("\\deleted" not in {flag.lower() for flag in item.flags or ()} for item in listed)

    def delete(self, row: Row) -> None:
        """The folder goes upstream, and the box here. Its Emails follow (:func:`clear_out`). Raises UpstreamError."""
        self.source.delete_folder(row.key)
        tree_sql.unbind_box(self.store, row.mid)
        self.tree.drop(row.mid)
        self.writes.note_tree()

    # --- the store -------------------------------------------------------------------------------------------------

    def _commit(self, work: Any, *mids: int) -> None:
        self.store.commit(work, announce=False)
        self.writes.note_tree()
        self.reload(mids)

    def reload(self, mids: Sequence[int]) -> None:
        """Take them from the store anew."""
        rows = {row.mid: row for row in tree_sql.rows_of(self.store, mids)}
        for mid in mids:
            if mid in rows:
                self.tree.put(rows[mid])
            else:
                self.tree.drop(mid)

    def _forget(self, number: int, error: UpstreamError) -> None:
        """A refusal is an end. Where nobody knows what happened the intent stays, and the next listing decides."""
        if not is_unsure(error):
            tree_sql.forget(self.store, [number])


def is_unsure(error: UpstreamError) -> bool:
    """Whether the server may have done it all the same."""
    return error.code == "unsure" or (error.temporary and not error.code)


def clear_out(store: Store, mid: int, validity: int | None) -> None:
    """All of a Mailbox whose folder is gone, in short transactions: copies, bindings, at last the row itself.

    Emails that are nowhere else are destroyed. Killed in between, the next pass goes on with it.
    """
    writes = writes_of(store)
    while uids := [*sql.known_uids(store, mid), *sql.ghosts(store, mid)]:
        for part in slices(uids, SETTLE):
            with writes.lock:
                _forget_copies(store, mid, part, validity)
            breathe()
    while sql.unbind_some(store.own, mid, UNBIND, None):
        breathe()
    with writes.tree:
        store.commit(lambda change: boxes_sql.destroy(change, mid), announce=False)
        writes.note_tree()


def _forget_copies(store: Store, mid: int, uids: Sequence[int], validity: int | None) -> None:
    folders = settling_folders(store, boxes_sql.rows(store))
    bound = [uid for uid in uids if uid > 0]
    if validity is not None and bound:
        sql.unbind(store.own, mid, validity, bound)

    def work(change: Change) -> None:
        eids = sql.emails_of(change.txn, mid, uids)
        sql.delete_copies(change.txn, mid, uids)
        resettle(change, folders, eids)

    store.commit(work, announce=False)
    writes_of(store).note(mid, uids)


# --- what a listing has to know --------------------------------------------------------------------------------------


def unlisted(
    store: Store, source: MailSource, listing: Sequence[Folder], known: Sequence[Binding], intents: Sequence[Intent]
) -> list[Folder]:
    """Folders of ours that the listing lacks although they are there: servers forget to list a new one for a while.

    Each is asked for by itself; only where the server says that it is not there is it gone. Raises UpstreamError.
    """
    made = {one.mid for one in intents if one.kind == "made"}
    listed = {folder.key: folder for folder in listing}
    missing = [box for box in known if box.mid in made and box.key not in listed]
    rows = {row.mid: row for row in boxes_sql.rows(store)} if missing else {}
    found: list[Folder] = []
    for box in sorted(missing, key=lambda one: len(one.key)):
        folder = _probe(source, rows[box.mid], rows, listed) if box.mid in rows else None
        if folder is not None:
            listed[folder.key] = folder
            found.append(folder)
    return found


def _probe(source: MailSource, row: Row, rows: Mapping[int, Row], listed: Mapping[bytes, Folder]) -> Folder | None:
    try:
        point = source.changes(row.key, None, lambda: ()).point
    except UpstreamError as error:
        if error.temporary and error.code not in ("nonexistent", "trycreate"):
            raise
        return None
    parent = rows.get(row.parent or 0)
    above = listed.get(parent.key) if parent is not None else None
    return Folder(
        row.key,
        (*(above.path if above is not None else ()), row.name),
        parent.key if parent is not None else None,
        subscribed=bool(row.subscribed),
        rights=Rights(),
        uidvalidity=point.uidvalidity,
        uidnext=point.uidnext,
        highestmodseq=point.highestmodseq or None,
        messages=point.messages,
    )


def settle_intents(store: Store, mids: Mapping[bytes, int], intents: Sequence[Intent]) -> None:
    """A listing was applied: what was begun has shown itself or never was; what was made is known by now, or gone."""
    there = set(mids.values())
    before = int(time.time()) - MADE_LATELY
    over = [one for one in intents if one.kind == "made" and (one.at < before or one.mid not in there)]
    over += [one for one in intents if one.kind in ("create", "rename")]
    tree_sql.forget(store, [one.number for one in over])


def finish_parked(store: Store, source: MailSource) -> bool:
    """Two that swap names were left in the middle: the parked one gets its own back. Whether there was one."""
    parked = [one for one in tree_sql.intents(store) if one.kind == "park"]
    if not parked:
        return False
    steps = Steps(store, source)
    for intent in parked:
        row = steps.tree.by_mid.get(intent.mid or 0)
        # Where it ended after the last step, the Mailbox has the name that it was to get.
        if row is not None and _PASSING.fullmatch(row.name):
            _give_back(steps, row, intent)
    tree_sql.forget(store, [one.number for one in parked])
    return True


def _give_back(steps: Steps, row: Row, intent: Intent) -> None:
    """The name that it had; if another has it by now that which it was to get; else one beside the first."""
    old = intent.name or "Mailbox"
    places = [
        (row.parent, old),
        (intent.wish_mid, intent.wish_name or old),
        *((row.parent, f"{old} ({number})") for number in range(2, 10)),
    ]
    for parent, name in places:
        if steps.tree.at(parent, name) is not None or (parent is not None and parent not in steps.tree.by_mid):
            continue
        try:
            return steps.rename(row, steps.tree.by_mid.get(parent or 0), name)
        except UpstreamError as error:
            log.warning("a folder keeps the passing name that it got while two were swapped: %s", error)
            if is_unsure(error):
                return None
    return None
