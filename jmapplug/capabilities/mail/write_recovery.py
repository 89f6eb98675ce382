"""What a worker that died left half done, finished after the next pass (mail-rules 28)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from jmapplug.backends import MailSource
from jmapplug.capabilities.mail import write_apply
from jmapplug.capabilities.mail.apply import Folders
from jmapplug.capabilities.mail.keywords import is_visible
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store import writing
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.write_effects import Effects
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.errors import UpstreamError
from jmapplug.store.account import Store

log = logging.getLogger("jmapplug.capabilities.mail")


def finish_transfers(store: Store, source: MailSource, boxes: Mapping[int, Row], folders: Folders) -> None:
    """Emails that arrived in the target leave the source now; of the others nothing was done, and nothing is."""
    with writes_of(store).lock:
        for one in writing.transfers(store):
            if sql.newest_pending(store, one.target) is not None:
                # Some of the copies may still have to be told whose they are.
                continue
            try:
                gone = _leave(store, source, boxes, one) if one.removes else []
            except UpstreamError as error:
                log.info("a move is not finished yet: %s", error)
                continue
            if gone:
                effects = Effects(gone={(one.source, uid): one.eids[uid] for uid in gone})
                write_apply.apply(store, folders, boxes, effects, keep_hidden=not source.features.uidplus)
            writing.end_transfer(store, one.entry)


def _leave(store: Store, source: MailSource, boxes: Mapping[int, Row], one: writing.TransferEntry) -> list[int]:
    """Remove from a transfer's source what has arrived; those UIDs. Raises UpstreamError.

    What we know of the target may be older than a write that took the copy back: nothing is removed before the server
    says that the copy is there.
    """
    arrived, box, target = writing.arrived(store, one), boxes.get(one.source), boxes.get(one.target)
    if not arrived or box is None or box.uidvalidity is None or target is None:
        return []
    there = {
        item.uid
        for item in source.items(target.key, sorted(uid for uids in arrived.values() for uid in uids))
        if is_visible(item.flags)
    }
    left = [uid for uid, uids in arrived.items() if not there.isdisjoint(uids)]
    return source.remove(box.key, box.uidvalidity, left) if left else []
