"""Further copies of Emails that are known: linked by the server's own message id, without fetching their details again.

Where folders are labels every message is in two folders at least: this halves what a first sync asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

from jmapplug.capabilities.mail import ids
from jmapplug.capabilities.mail.apply import Folders, resettle
from jmapplug.capabilities.mail.plan import slices
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store import writing
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.store.account import Change, Store
from jmapplug.store.pace import breathe

TRUSTED = frozenset({"emailid", "gmail"})
"""Schemes whose ids are a message's own for good; X-GUID on mbox is a hash of a few header fields (mail-rules 3)."""
AT_ONCE = 100


def link_known(store: Store, folders: Folders, box: Row, uids: Sequence[int], scheme: str) -> frozenset[int]:
    """Those of ``uids``, pending copies in ``box``, that are linked now: their Emails are visible already."""
    done: set[int] = set()
    for part in slices(uids, AT_ONCE) if scheme in TRUSTED and box.uidvalidity is not None else ():
        # A write of ours may know better which Email a copy is.
        with writes_of(store).lock:
            done |= _link(store, folders, box, part, scheme)
        breathe()
    return frozenset(done)


def _link(store: Store, folders: Folders, box: Row, uids: Sequence[int], scheme: str) -> set[int]:
    here = sql.here(store.own)
    names = {
        uid: ids.server_evidence(store.salt, scheme, one.server_id, 0, here)
        for uid, one in sql.pending_facts(store, box.mid, uids).items()
        if one.server_id is not None
    }
    found = sql.evidence(store.own, set(names.values()))
    emails = {uid: found[value][0].eid for uid, value in names.items() if value in found}
    # A copy that was bound before keeps its Email (mail-rules 2).
    bound = sql.bindings(store.own, box.mid, box.uidvalidity or 0, list(emails))
    visible = writing.facts(store, set(emails.values()))
    emails = {uid: eid for uid, eid in emails.items() if eid in visible and (uid not in bound or bound[uid].eid == eid)}
    if not emails:
        return set()
    sql.bind(store.own, box.mid, box.uidvalidity or 0, (), list(emails.items()), ())

    def work(change: Change) -> set[int]:
        there = sql.waiting(change.txn, box.mid, list(emails))
        sql.assign(change.txn, box.mid, ((emails[uid], uid) for uid in there))
        resettle(change, folders, list({emails[uid] for uid in there}))
        return set(there)

    return store.commit(work, announce=False)
