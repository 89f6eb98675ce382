"""The listing of a pass, and of a Mailbox/set: upstream's folders become Mailboxes (mail-rules 6, 25, 26)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from jmapplug.backends import Folder, MailSource
from jmapplug.capabilities.mail import folders as boxes_plan
from jmapplug.capabilities.mail.details import facts_of
from jmapplug.capabilities.mail.mailbox_steps import finish_parked, settle_intents, unlisted
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store import tree as tree_sql
from jmapplug.capabilities.mail.upstream import arrive, is_elsewhere
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.errors import UpstreamError
from jmapplug.store.account import Change, Store


def read_listing(store: Store, source: MailSource) -> tuple[list[Folder], dict[bytes, int]]:
    """The folders upstream, and key → mid of all Mailboxes; those of the cache without a mid here are gone.

    Nobody makes, renames or deletes folders through us in the meantime. Raises UpstreamError.
    """
    writes = writes_of(store)
    with writes.lock if is_elsewhere(store, source) else nullcontext(), writes.tree:
        found = _read(store, source)
        if finish_parked(store, source):
            found = _read(store, source)
        return found


def _read(store: Store, source: MailSource) -> tuple[list[Folder], dict[bytes, int]]:
    listed = source.folders()
    if not listed:
        # There is an INBOX always (RFC 3501 §5.1): this is no answer, and must not empty the account.
        raise UpstreamError("the server lists no mailbox at all")
    arrive(store, source, listed)
    known = boxes_sql.bindings(store)
    intents = tree_sql.intents(store)
    listing = [*listed, *unlisted(store, source, listed, known, intents)]
    renames = _proved_renames(store, source, boxes_plan.rename_candidates(listing, known))
    renames |= boxes_plan.own_renames(listing, known, intents)
    boxes = boxes_plan.own_creations(boxes_plan.plan_boxes(listing, known, renames), intents)
    mids = boxes_sql.bind(store, boxes, known)
    live = boxes_sql.rows(store)

    def work(change: Change) -> None:
        boxes_sql.save(change, store, boxes, mids, live)
        trash = next((mids[box.key] for box in boxes if box.role == "trash"), None)
        before = next((row.mid for row in live if row.role == "trash"), None)
        if trash != before:
            boxes_sql.recount(change, before, trash)

    store.commit(work, announce=False)
    writes_of(store).note_tree()
    settle_intents(store, mids, intents)
    return listing, mids


def _proved_renames(store: Store, source: MailSource, candidates: Sequence[tuple[Folder, int]]) -> dict[bytes, int]:
    """Renames seen from outside: three sampled UIDs are the same messages (mail-rules 6)."""
    proved: dict[bytes, int] = {}
    for folder, mid in candidates:
        if folder.key in proved or mid in proved.values():
            continue
        wanted = dict(sql.sample(store, mid))
        if len(wanted) < 3:
            continue
        same = 0
        for batch in source.details(folder.key, list(wanted)):
            for detail in batch:
                content = facts_of(detail, store.salt).content
                same += sql.is_evidence(store.own, content, wanted.get(detail.uid, 0))
        if same == len(wanted):
            proved[folder.key] = mid
    return proved
