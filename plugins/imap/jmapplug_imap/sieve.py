"""SieveSource over ManageSieve: one connection, kept for half a minute after its last use; finding the server."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import gevent
import msgspec
from gevent.lock import RLock

from jmapplug.backends import SieveFeatures
from jmapplug.errors import AuthenticationError, SetupError, UpstreamError
from jmapplug_imap.backoff import Backoff
from jmapplug_imap.connecting import ca_file
from jmapplug_imap.managesieve import Answer, Line, ManageSieve, Timeouts, literal, open_connection, string
from jmapplug_imap.oauth import Tokens
from jmapplug_imap.protocol.auth import OAUTH, Credentials
from jmapplug_imap.protocol.errors import CommandNo, ProtocolError
from jmapplug_imap.settings import PLAIN, ImapSettings

T = TypeVar("T")
LINGER = 30.0
"""Seconds that an unused connection stays: an account's connections are few, and shared with other clients."""
FRESH = 2.0
"""Seconds after its last use within which a connection is taken to live; later it is asked first."""
PROBE = Timeouts(connect=1.5, command=5)
"""While an account is being made and nobody said that there is a ManageSieve server at all."""
TRIAL = Timeouts(connect=10, command=20)
QUEUE_DEADLINE = 60.0
"""Seconds to wait for the connection while others use it."""
AT_ONCE = 16
"""Scripts asked for in one round trip."""
SPARE = "jmapplug-check-"


def connect_sieve(
    settings: ImapSettings, email: str, timeouts: Timeouts | None = None, tokens: Tokens | None = None
) -> ManageSieve:
    """A connection that is logged in, with a token of ``tokens`` where the server takes one, else with the password.

    Raises AuthenticationError, UpstreamError.
    """
    username = settings.username or email
    if tokens is None:
        return _opened(settings, lambda connection: Credentials(username, settings.password or ""), timeouts)

    def with_token(connection: ManageSieve, token: Callable[[], str]) -> Credentials:
        if connection.mechanisms & OAUTH:
            return Credentials(username, token=token())
        if not settings.password:
            raise CommandNo("the ManageSieve server offers no OAuth, and the account has no password", temporary=False)
        return Credentials(username, settings.password)

    return tokens.logged_in(lambda token: _opened(settings, lambda connection: with_token(connection, token), timeouts))


def _opened(
    settings: ImapSettings, credentials: Callable[[ManageSieve], Credentials], timeouts: Timeouts | None
) -> ManageSieve:
    if not settings.sieveHost or not settings.sievePort:
        raise UpstreamError("the account has no ManageSieve server", temporary=False)
    with ca_file(settings.imapCA) as path:
        return open_connection(
            settings.sieveHost, settings.sievePort, settings.sieve_security, path, credentials, timeouts or Timeouts()
        )


class Sieve:
    """See backends.SieveSource. Safe for many greenlets: they take turns on the one connection."""

    def __init__(self, connect: Callable[[], ManageSieve], clock: Callable[[], float] = time.monotonic) -> None:
        self._connect = connect
        self._clock = clock
        self._backoff = Backoff(clock)
        self._turn = RLock()
        self._connection: ManageSieve | None = None
        self._used_at = 0.0
        self._closer: gevent.Greenlet | None = None
        self._closed = False
        self._features: SieveFeatures | None = None

    def features(self) -> SieveFeatures:
        if self._features is None:
            self._run(lambda connection: None)
        assert self._features is not None
        return self._features

    def scripts(self) -> list[tuple[str, bool]]:
        answer = self._run(lambda connection: connection.command(b"LISTSCRIPTS"))
        return [_script(line) for line in answer.lines if line]

    def read(self, name: str) -> bytes:
        found = self.read_all([name])
        return found[name]

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        def work(connection: ManageSieve) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for start in range(0, len(names), AT_ONCE):
                some = names[start : start + AT_ONCE]
                answers = connection.pipeline([(b"GETSCRIPT", string(name)) for name in some])
                found.update(
                    (name, _content(answer)) for name, answer in zip(some, answers, strict=True) if _is_there(answer)
                )
            return found

        return self._run(work)

    def write(self, name: str, content: bytes) -> None:
        def work(connection: ManageSieve) -> None:
            try:
                connection.command(b"PUTSCRIPT", string(name), literal(content))
            except CommandNo as error:
                if error.code is not None or not connection.has("VERSION"):
                    raise _refused(error) from error
                # No code tells whether size, script or name is at fault.
                _have_space(connection, name, len(content))
                _check(connection, content)
                raise CommandNo(str(error), code="cannot", temporary=False) from error

        self._run(work)

    def check(self, content: bytes) -> None:
        self._run(lambda connection: _check(connection, content))

    def activate(self, name: str | None) -> None:
        self._run(lambda connection: connection.command(b"SETACTIVE", string(name or "")))

    def rename(self, old: str, new: str) -> None:
        def work(connection: ManageSieve) -> None:
            if not connection.has("VERSION"):
                _rename_by_copy(connection, old, new)
                return
            try:
                connection.command(b"RENAMESCRIPT", string(old), string(new))
            except CommandNo as error:
                raise CommandNo(str(error), code=error.code or "cannot", temporary=error.temporary) from error

        self._run(work)

    def delete(self, name: str) -> None:
        self._run(lambda connection: connection.command(b"DELETESCRIPT", string(name)))

    def close(self) -> None:
        """Close the connection; who waits for an answer gets an UpstreamError."""
        self._closed = True
        self._drop()
        if self._closer is not None:
            self._closer.kill(block=False)

    # --- the connection

    def _run(self, work: Callable[[ManageSieve], T]) -> T:
        """Nothing is tried twice: a connection that may have died at rest is asked before it is used."""
        if not self._turn.acquire(timeout=QUEUE_DEADLINE):
            raise UpstreamError("the ManageSieve server is too slow: others wait for it already")
        try:
            if self._closed:
                raise UpstreamError("this account's session is closed", temporary=False)
            return self._once(self._alive(), work)
        finally:
            self._turn.release()

    def _once(self, connection: ManageSieve, work: Callable[[ManageSieve], T]) -> T:
        try:
            return work(connection)
        except CommandNo:
            raise
        except BaseException:
            # Half an answer may still be in it.
            self._drop()
            raise
        finally:
            self._used_at = self._clock()
            self._close_later()

    def _alive(self) -> ManageSieve:
        connection = self._connection
        if connection is not None and self._clock() - self._used_at > FRESH:
            try:
                # NO is an answer too: servers older than RFC 5804 do not know NOOP.
                if connection.pipeline([(b"NOOP",)])[0].status == "BYE":
                    self._drop()
            except UpstreamError:
                self._drop()
        if self._connection is None:
            self._backoff.check()
            try:
                self._connection = self._connect()
            except UpstreamError as error:
                self._backoff.failed(error)
                raise
            self._backoff.succeeded()
            self._features = features_of(self._connection)
        return self._connection

    def _close_later(self) -> None:
        if self._connection is not None and self._closer is None:
            self._closer = gevent.spawn(self._linger)

    def _linger(self) -> None:
        while (left := self._used_at + LINGER - self._clock()) > 0 and self._connection is not None:
            gevent.sleep(left)
        self._closer = None
        with self._turn:
            if self._used_at + LINGER <= self._clock():
                self._drop()
            else:
                self._close_later()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def features_of(connection: ManageSieve) -> SieveFeatures:
    """From the capabilities after login (RFC 5804 §1.7, RFC 6134 §2.9)."""
    told = connection.capabilities
    redirects = told.get("MAXREDIRECTS", "")
    return SieveFeatures(
        implementation=told.get("IMPLEMENTATION", "")[:200],
        extensions=tuple(told.get("SIEVE", "").split()),
        notify=tuple(told["NOTIFY"].split()) if "NOTIFY" in told else None,
        max_redirects=int(redirects) if redirects.isascii() and redirects.isdigit() and len(redirects) < 10 else None,
        lists=tuple(told["EXTLISTS"].split()) if "EXTLISTS" in told else None,
    )


def _script(line: Line) -> tuple[str, bool]:
    active = any(token.atom and token.value.upper() == b"ACTIVE" for token in line[1:])
    return line[0].value.decode("utf-8", "surrogateescape"), active


def _is_there(answer: Answer) -> bool:
    if answer.status == "OK":
        return True
    if answer.code != "nonexistent":
        raise CommandNo(answer.text or "refused", code=answer.code or None, temporary=answer.code == "trylater")
    return False


def _content(answer: Answer) -> bytes:
    if len(answer.lines) != 1 or len(answer.lines[0]) != 1 or answer.lines[0][0].atom:
        raise ProtocolError("the answer to GETSCRIPT is not one string")
    return answer.lines[0][0].value


def _refused(error: CommandNo) -> CommandNo:
    return CommandNo(str(error), code=error.code or "invalid", temporary=error.temporary)


def _have_space(connection: ManageSieve, name: str, size: int) -> None:
    """Raises CommandNo with the code that says which limit there is (RFC 5804 §2.5)."""
    try:
        connection.command(b"HAVESPACE", string(name), b"%d" % size)
    except CommandNo as error:
        if error.code is not None:
            raise


def _check(connection: ManageSieve, content: bytes) -> None:
    try:
        if connection.has("VERSION"):
            connection.command(b"CHECKSCRIPT", literal(content))
            return
        spare = string(SPARE + secrets.token_hex(8))
        connection.command(b"PUTSCRIPT", spare, literal(content))
        connection.command(b"DELETESCRIPT", spare)
    except CommandNo as error:
        raise _refused(error) from error


def _rename_by_copy(connection: ManageSieve, old: str, new: str) -> None:
    """For servers older than RFC 5804: the new one is there and active before the old one goes."""
    known = dict(_script(line) for line in connection.command(b"LISTSCRIPTS").lines if line)
    if new in known:
        raise CommandNo("a script of that name exists", code="alreadyexists", temporary=False)
    answer = connection.command(b"GETSCRIPT", string(old))
    connection.command(b"PUTSCRIPT", string(new), literal(_content(answer)))
    if known.get(old):
        connection.command(b"SETACTIVE", string(new))
    connection.command(b"DELETESCRIPT", string(old))


# --- when an account is made


def probe(settings: ImapSettings, email: str, tokens: Tokens | None = None) -> ImapSettings:
    """``settings`` with the ManageSieve server on the IMAP host, where there is one that takes the login; else as they

    are. Where ``sieveSSL`` asks for TLS, only an account whose IMAP is in clear gets ManageSieve in clear instead.
    """
    tried = [msgspec.structs.replace(settings, sieveHost=settings.imapHost)]
    if settings.imap_security == PLAIN and settings.sieve_security != PLAIN:
        tried.append(msgspec.structs.replace(tried[0], sieveSSL=PLAIN))
    for each in tried:
        try:
            connect_sieve(each, email, PROBE, tokens).close()
            return each
        except AuthenticationError:
            # What is refused is not sent once more, in clear.
            break
        except UpstreamError:
            continue
    return settings


def check_named(settings: ImapSettings, email: str, tokens: Tokens | None = None) -> None:
    """Log in at a server that somebody named. Raises SetupError("sieveHost"), UpstreamError where it is away."""
    try:
        connect_sieve(settings, email, TRIAL, tokens).close()
    except UpstreamError as error:
        if error.temporary:
            raise
        raise SetupError("sieveHost", str(error)) from error
