"""What a worker that died left half done, finished after the next pass (mail-rules 28)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from jmapplug.backends import MailSource
from jmapplug.capabilities.mail import write_apply
from jmapplug.capabilities.mail.apply import Folders
from jmapplug.capabilities.mail.store import writing
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.write_run import Effects
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.errors import UpstreamError
from jmapplug.store.account import Store

log = logging.getLogger("jmapplug.capabilities.mail")


def finish_moves(store: Store, source: MailSource, boxes: Mapping[int, Row], folders: Folders) -> None:
    """Moves in two steps whose COPY arrived lose their source now; of the others nothing was done, and nothing is."""
    with writes_of(store).lock:
        for move in writing.moves(store):
            box = boxes.get(move.source)
            arrived = writing.arrived(store, move)
            if box is not None and box.uidvalidity is not None and arrived:
                try:
                    gone = source.remove(box.key, box.uidvalidity, arrived)
                except UpstreamError as error:
                    log.info("a move is not finished yet: %s", error)
                    continue
                effects = Effects(gone={(move.source, uid): move.eids[uid] for uid in gone})
                hidden = not source.features.uidplus
                write_apply.apply(store, folders, boxes, effects, keep_hidden=hidden)
            writing.end_move(store, move.entry)
