"""Writing down locally what the server has done, so that the next call sees it (mail-rules 12, 18, 39).

own.sqlite3 first (which Email a new copy is), then the cache, in short transactions. No sync point moves: the next pass
meets the same changes, and finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jmapplug.capabilities.mail.apply import Folders, resettle
from jmapplug.capabilities.mail.plan import FlagChange, slices
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store import writing
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.store.writing import Place
from jmapplug.capabilities.mail.write_effects import Effects, NewCopy, grouped
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.store.account import Change, Store
from jmapplug.store.pace import breathe

AT_ONCE = 200
"""Emails in one transaction of the cache."""


def apply(
    store: Store,
    folders: Folders,
    boxes: Mapping[int, Row],
    effects: Effects,
    *,
    keep_hidden: bool,
    also: Iterable[int] = (),
) -> dict[int, frozenset[int]]:
    """Make the store say what the server has now: Email → where it is (mids), of all concerned.

    ``keep_hidden``: what was removed is only flagged \\Deleted upstream.
    ``also``: Emails whose local keywords changed. A folder that turned out to be another one is left to the next pass.
    """
    strange = {
        mid
        for mid, validity in effects.validity.items()
        if boxes[mid].uidvalidity is not None and boxes[mid].uidvalidity != validity
    }
    effects.unknown |= strange
    new = {place: copy for place, copy in effects.new.items() if copy.mid not in strange}
    _bind(store, boxes, effects, new.values())
    by_email: dict[int, list[Place]] = {eid: [] for eid in also}
    for place, eid in writing.emails_at(store, effects.flags).items():
        by_email.setdefault(eid, []).append(place)
    for place, copy in new.items():
        by_email.setdefault(copy.eid, []).append(place)
    for place, eid in effects.gone.items():
        by_email.setdefault(eid, []).append(place)
    places: dict[int, frozenset[int]] = {}
    for number, part in enumerate(slices(list(by_email), AT_ONCE)):
        if number:
            breathe()
        touched = [place for eid in part for place in by_email[eid]]

        def work(
            change: Change,
            part: list[int] = list(part),  # noqa: B006
            touched: list[Place] = touched,
        ) -> dict[int, frozenset[int]]:
            _write(change, store, effects, new, touched, keep_hidden)
            return resettle(change, folders, part)

        places |= store.commit(work, announce=False)
    return places


def _bind(store: Store, boxes: Mapping[int, Row], effects: Effects, new: Iterable[NewCopy]) -> None:
    """One transaction, because each waits for the disk."""
    come, fresh = [], {}
    for copy in new:
        validity = effects.validity.get(copy.mid) or boxes[copy.mid].uidvalidity
        if validity is not None:
            come.append((copy.mid, validity, copy.uid, copy.eid))
            if boxes[copy.mid].uidvalidity is None:
                fresh[copy.mid] = validity
    gone = [
        (mid, validity, uids)
        for mid, uids in grouped(effects.gone).items()
        if (validity := boxes[mid].uidvalidity) is not None
    ]
    if come or gone:
        sql.rebind(store.own, come, gone)
    for mid, validity in fresh.items():
        store.commit(
            lambda change, mid=mid, validity=validity: boxes_sql.set_validity(change.txn, mid, validity),  # type: ignore[misc]
            announce=False,
        )


def _write(
    change: Change,
    store: Store,
    effects: Effects,
    new: Mapping[Place, NewCopy],
    places: Iterable[Place],
    keep_hidden: bool,
) -> None:
    registry = writes_of(store)
    arrived: list[NewCopy] = []
    changed: list[tuple[int, FlagChange]] = []
    gone: list[Place] = []
    for place in dict.fromkeys(places):
        mid, uid = place
        if place in new:
            arrived.append(new[place])
        elif place in effects.gone:
            gone.append(place)
        else:
            changed.append((mid, FlagChange(uid, effects.flags[place], False)))
    # In one step where a copy left one folder for another: the row is the same.
    moved = {} if keep_hidden else {copy.origin: copy for copy in arrived if copy.origin in effects.gone}
    writing.insert_copies(change.txn, [copy for copy in arrived if moved.get(copy.origin) is not copy])
    writing.move_copies(change.txn, moved.values())
    for mid, rows in grouped(changed).items():
        sql.update_flags(change.txn, mid, rows)
    for mid, uids in grouped(place for place in gone if place not in moved).items():
        (writing.hide_copies if keep_hidden else sql.delete_copies)(change.txn, mid, uids)
    for mid, uids in grouped((mid, uid) for mid, uid in places).items():
        registry.note(mid, uids)
