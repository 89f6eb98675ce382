"""The same calls beside ours on this machine: a bare IMAP client's, and those of a server that has JMAP itself."""

from __future__ import annotations

import contextlib
import imaplib
import itertools
from collections.abc import Callable, Iterator

from bench import mail
from bench.client import Lean
from jmapplug.testing import cyrus
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import Client, basic


class Native(Lean):
    """A user of Cyrus's own JMAP."""

    api = "/jmap/"


@contextlib.contextmanager
def native() -> Iterator[Native | None]:
    """An account of 2,000 messages on Cyrus; None where its JMAP is not at hand."""
    if not cyrus.speaks_jmap():
        yield None
        return
    server = cyrus.start(jmap=True)
    try:
        user = server.new_user()
        mail.fill(server, user, "INBOX", 2000)
        yield Native(server.jmap_port, user, basic(user, server.password))
    finally:
        server.stop()


def newest(client: Client, count: int) -> list[str]:
    """Ids of so many Emails."""
    ids: list[str] = client.call("Email/query", limit=count)["ids"]
    return ids


@contextlib.contextmanager
def _steps(imap: imaplib.IMAP4, work: Iterator[None]) -> Iterator[Callable[[], object]]:
    """A function that does the next step of ``work``."""
    yield lambda: next(work)
    imap.logout()


def _filled(server: Dovecot) -> imaplib.IMAP4:
    """A connection to an account of 2,000 messages that nobody watches."""
    user = server.new_user()
    mail.fill(server, user, "INBOX", 2000)
    return server.imap(user)


def stores(server: Dovecot, count: int) -> contextlib.AbstractContextManager[Callable[[], object]]:
    """Each step changes a keyword of ``count`` messages in the folder that is selected."""
    imap = _filled(server)
    imap.select("INBOX")

    def work() -> Iterator[None]:
        for sign in itertools.cycle("+-"):
            imap.uid("STORE", f"1:{count}", f"{sign}FLAGS.SILENT", "(\\Flagged)")
            yield

    return _steps(imap, work())


def moves(server: Dovecot) -> contextlib.AbstractContextManager[Callable[[], object]]:
    """Each step selects a folder and moves the same 100 messages, between INBOX and Archive."""
    imap = _filled(server)
    imap.create("Archive")

    def work() -> Iterator[None]:
        uids = "1901:2000"
        for source, target in itertools.cycle((("INBOX", "Archive"), ("Archive", "INBOX"))):
            imap.select(source)
            imap.uid("MOVE", uids, target)
            uids = imap.response("COPYUID")[1][0].split()[2].decode()
            yield

    return _steps(imap, work())


def appends(server: Dovecot, user: str, raw: bytes) -> contextlib.AbstractContextManager[Callable[[], object]]:
    """Each step appends a message to Drafts."""
    imap = server.imap(user)

    def work() -> Iterator[None]:
        while True:
            imap.append("Drafts", "(\\Draft \\Seen)", None, raw)
            yield

    return _steps(imap, work())
