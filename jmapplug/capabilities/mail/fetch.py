"""Octets of messages: from the cached files, else from any copy upstream, streamed into a file and kept.

Keys of cached files are blob ids (``m-…`` the message, ``p-…`` a part after decoding) and ``h-…`` for header blocks.
While the upstream is down what is cached is served (mail-rules 17); the rest fails with ``serverUnavailable``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from gevent.lock import BoundedSemaphore

from jmapplug.backends import MailSource
from jmapplug.capabilities.mail.store import emails
from jmapplug.capabilities.mail.store.emails import Copy
from jmapplug.capabilities.mail.upstream import mail_source
from jmapplug.errors import AuthenticationError, MethodError, UpstreamError

T = TypeVar("T")
log = logging.getLogger("jmapplug.mail")

MAX_COPIES = 4
"""How many copies of one message are tried before its Email is given up for this call."""
_HEADERS_AT_ONCE = 250


class Gone(Exception):
    """No copy of the message is left upstream: the next pass of the sync will say so too."""


class Unreadable(Gone):
    """The message is there, and the server cannot give it: one bad message never fails the others (wishes 20, 21)."""


UNREADABLE = "unreadable"
"""The code of an UpstreamError that speaks of this one message."""


def unavailable(error: UpstreamError) -> MethodError:
    """The answer of a call that needs the upstream while it is away (RFC 8620 §3.6.2)."""
    failure = MethodError("serverUnavailable", "The mail server cannot be reached now; please try again later.")
    failure.__cause__ = error
    return failure


def from_copies(account: Any, eid: int, read: Callable[[MailSource, Copy], T]) -> T:
    """What ``read`` gets from the first copy that can be read.

    A copy that is gone, or in a folder that fails, is passed over. Raises :class:`Gone` when all are gone,
    :class:`Unreadable` when the others are beyond reading, MethodError serverUnavailable when one could not be asked.
    """
    bad = False
    failure: UpstreamError | None = None
    found = emails.copies(account.store, [eid])[eid][:MAX_COPIES]
    try:
        source = mail_source(account)
    except UpstreamError as error:
        raise unavailable(error) from error
    for copy in found:
        try:
            return read(source, copy)
        except KeyError:
            continue
        except AuthenticationError as error:
            raise unavailable(error) from error
        except UpstreamError as error:
            if error.code == UNREADABLE:
                log.warning("account %s: a message cannot be read: %s", account.id, error)
                bad = True
            else:
                failure = error
    if failure is None and not found and emails.is_ghost(account.store, eid):
        failure = UpstreamError("the folders are being read anew")
    if failure is not None:
        raise unavailable(failure)
    raise Unreadable(eid) if bad else Gone(eid)


_locks: WeakValueDictionary[tuple[Path, str], BoundedSemaphore] = WeakValueDictionary()


@contextmanager
def _alone(account: Any, key: str) -> Iterator[None]:
    """One greenlet at a time for a key: a viewer's parallel range requests must not fetch one part many times."""
    lock = _locks.setdefault((account.store.folder, key), BoundedSemaphore())
    with lock:
        yield


def cached(account: Any, key: str, write: Callable[[Path], object]) -> Path:
    """The cached file of ``key``; ``write`` fills a new one where there is none."""
    blobs = account.store.blobs
    path: Path | None = blobs.find(key)
    if path is not None:
        return path
    with _alone(account, key):
        path = blobs.find(key)
        if path is not None:
            return path
        fresh: Path = blobs.temporary()
        try:
            write(fresh)
            kept: Path = blobs.keep(key, fresh)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        return kept


def raw_message(account: Any, eid: int, email_id: str) -> Path:
    """The file with the whole message. Raises as :func:`from_copies`."""

    def write(target: Path) -> None:
        from_copies(account, eid, lambda source, copy: source.raw(copy.key, copy.uid, target))

    return cached(account, f"m-{email_id}", write)


def header_block(account: Any, eid: int, email_id: str) -> bytes:
    """The header block of a message. Raises as :func:`from_copies`."""

    def write(target: Path) -> None:
        target.write_bytes(
            from_copies(account, eid, lambda source, copy: source.headers(copy.key, [copy.uid])[copy.uid])
        )

    return cached(account, f"h-{email_id}", write).read_bytes()


def part_header_blocks(account: Any, eid: int, email_id: str, sections: list[str]) -> dict[str, bytes]:
    """section → MIME header block of these parts; those not cached come in one round trip."""
    blobs = account.store.blobs
    found: dict[str, bytes] = {}
    for section in sections:
        path = blobs.find(f"h-{email_id}-{section}")
        if path is not None:
            found[section] = path.read_bytes()
    missing = [section for section in sections if section not in found]
    if missing:

        def read(source: MailSource, copy: Copy) -> dict[str, bytes]:
            blocks = source.part_headers(copy.key, copy.uid, missing)
            if not blocks:
                raise KeyError(copy.uid)
            return blocks

        for section, block in from_copies(account, eid, read).items():
            blobs.store(f"h-{email_id}-{section}", block)
            found[section] = block
    return found


def warm_headers(account: Any, wanted: dict[str, int]) -> None:
    """Fetch the header blocks of a page (Email id → eid) that are not cached: one round trip per folder.

    What fails here is fetched one by one when it is read, and fails there.
    """
    missing = {eid: id_ for id_, eid in wanted.items() if account.store.blobs.find(f"h-{id_}") is None}
    if len(missing) < 2:
        return
    folders: dict[bytes, dict[int, str]] = {}
    for eid, places in emails.copies(account.store, missing).items():
        if places:
            folders.setdefault(places[0].key, {})[places[0].uid] = missing[eid]
    for key, uids in folders.items():
        for start in range(0, len(uids), _HEADERS_AT_ONCE):
            some = list(uids)[start : start + _HEADERS_AT_ONCE]
            try:
                blocks = mail_source(account).headers(key, some)
            except UpstreamError:
                return
            for uid, block in blocks.items():
                if uid in uids:
                    account.store.blobs.store(f"h-{uids[uid]}", block)
