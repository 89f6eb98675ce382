"""What a worker that died left half done, finished after the next pass (mail-rules 28)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from jmapplug.backends import MailSource
from jmapplug.capabilities.mail import write_apply
from jmapplug.capabilities.mail.apply import Folders
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
            box = boxes.get(one.source)
            left = writing.arrived(store, one) if one.removes else []
            if left and box is not None and box.uidvalidity is not None:
                try:
                    gone = source.remove(box.key, box.uidvalidity, left)
                except UpstreamError as error:
                    log.info("a move is not finished yet: %s", error)
                    continue
                effects = Effects(gone={(one.source, uid): one.eids[uid] for uid in gone})
                write_apply.apply(store, folders, boxes, effects, keep_hidden=not source.features.uidplus)
            writing.end_transfer(store, one.entry)
