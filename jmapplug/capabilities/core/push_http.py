"""One POST to a push service: to a checked address, verified TLS, no redirects, limits and deadlines everywhere."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, NamedTuple

import gevent
from gevent import socket, ssl

from jmapplug.capabilities.core.push_target import Target, Unresolved, addresses

STEP_SECONDS = 10.0
"""For the connection, and between two octets of the answer."""
DEADLINE = 30.0
"""Seconds for a whole post: names, connection, TLS, request, the answer's head."""
LONGEST_WAIT = 24 * 3600.0


class NotSent(Exception):
    """Nothing of the request has left: no address, no connection, no TLS."""


class NoAnswer(Exception):
    """The request may have arrived; there is no answer."""


class Answer(NamedTuple):
    """The status, and the seconds of Retry-After."""

    status: int
    retry_after: float | None


@lru_cache(maxsize=2)
def tls_context(ca_file: str | None) -> Any:
    """Verifying, with the system's authorities and those of ``ca_file``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_default_verify_paths()
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


def post(
    target: Target,
    headers: dict[str, str],
    body: bytes,
    *,
    now: float,
    leaving: Callable[[], None] = lambda: None,
    private: bool = False,
    ca: str | None = None,
) -> Answer:
    """Post once; ``leaving`` is called right before the first octet.

    Raises Refused (push_target), NotSent, NoAnswer.
    """
    sock = None
    timeout = gevent.Timeout.start_new(DEADLINE)
    try:
        sock = _connect(target, private, ca)
        leaving()
        return _exchange(target, sock, headers, body, now)
    except gevent.Timeout as error:
        if error is not timeout:
            raise
        raise (NotSent if sock is None else NoAnswer)("no answer in time") from None
    finally:
        timeout.close()
        if sock is not None:
            sock.close()


def _connect(target: Target, private: bool, ca: str | None) -> Any:
    try:
        hosts = addresses(target, private)
    except Unresolved as error:
        raise NotSent(str(error)) from None
    failure: Exception = NotSent("no address")
    for host in hosts[:4]:
        sock = None
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            sock.settimeout(STEP_SECONDS)
            sock.connect((host, target.port))
            if not target.secure:
                return sock
            return tls_context(ca).wrap_socket(sock, server_hostname=target.host)
        except (OSError, ValueError, UnicodeError) as error:
            failure = error
            if sock is not None:
                sock.close()
        except BaseException:
            if sock is not None:
                sock.close()
            raise
    raise NotSent(type(failure).__name__) from None


def _exchange(target: Target, sock: Any, headers: dict[str, str], body: bytes, now: float) -> Answer:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.default_port = 443 if target.secure else 80
    connection.sock = sock
    try:
        connection.request("POST", target.path, body, {**headers, "Connection": "close"})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(type(error).__name__) from None
    # What the answer's body says is nothing to us: it is never read, and the connection ends.
    return Answer(answer.status, _retry_after(answer.getheader("Retry-After"), now))


def _retry_after(value: str | None, now: float) -> float | None:
    """RFC 9110 §10.2.3: seconds, or a date."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(value[:100])
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return min(max(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now, 0.0), LONGEST_WAIT)
