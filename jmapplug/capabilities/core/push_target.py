"""Where a push may go (RFC 8620 §8.6): to https, and to addresses of the Internet, never into this network."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

import gevent
from gevent import socket

LONGEST_URL = 2048
RESOLVE_SECONDS = 5.0
_PLAIN = re.compile(r"[\x21-\x7e]+")
# RFC 1035 §2.3.4. A name with other labels is a traceback in the log of who looks it up.
_LABELS = re.compile(r"[a-z0-9_:-]{1,63}(\.[a-z0-9_:-]{1,63})*\.?", re.IGNORECASE)
# Prefixes whose addresses carry an IPv4 address that the packet may end at: NAT64 (RFC 6052, 8215), 6to4, Teredo.
_CARRIERS = tuple(ipaddress.ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))


class Refused(Exception):
    """This is not a target for pushes; the text is for the client."""


class Unresolved(Exception):
    """The name has no address at the moment."""


class Target(NamedTuple):
    """A URL in parts; ``host`` in ASCII, ``path`` with the query."""

    secure: bool
    host: str
    port: int
    path: str


def parse(url: str, private: bool) -> Target:
    """The parts of a push URL; ``private``: http is allowed as well. Raises Refused. Looks nothing up."""
    if len(url) > LONGEST_URL or not _PLAIN.fullmatch(url):
        raise Refused(f"url must be an absolute URL of at most {LONGEST_URL} ASCII characters")
    if not (url.startswith("https://") or (private and url.startswith("http://"))):
        raise Refused("url must begin with https:// (RFC 8620 §7.2)")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise Refused("url is not a URL") from None
    if parts.username is not None or parts.password is not None or parts.fragment or "#" in url or "\\" in url:
        raise Refused("url may have neither a user nor a fragment")
    if not _LABELS.fullmatch(host) or len(host) > 253 or port == 0:
        raise Refused("url has no valid host")
    secure = parts.scheme == "https"
    return Target(
        secure, host, port or (443 if secure else 80), (parts.path or "/") + ("?" + parts.query) * ("?" in url)
    )


def addresses(target: Target, private: bool) -> list[str]:
    """The addresses of the target's host, all of them public unless ``private``. Raises Refused, Unresolved.

    Who connects uses what this returned and never the name again: a second look-up could answer another address.
    """
    try:
        with gevent.Timeout(RESOLVE_SECONDS):
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, gevent.Timeout):
        raise Unresolved("the url's host has no address") from None
    hosts = list(dict.fromkeys(str(each[4][0]) for each in found))
    if not private and not all(map(is_public, hosts)):
        raise Refused("url leads to an address that is not on the Internet")
    return hosts


def is_public(address: str) -> bool:
    """Whether an address, with whatever it carries inside, is a unicast address of the Internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        # ::/96, "IPv4-compatible": nothing on the Internet has one.
        if found.scope_id or int(found) >> 32 == 0 or found.is_site_local or any(found in net for net in _CARRIERS):
            return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)
