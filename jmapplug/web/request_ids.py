"""The id of a request: told by a proxy that is trusted, or made here; in every log line of it, and given back."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from flask import Request, Response

from jmapplug.workers import context

HEADER = "X-Request-Id"
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=8)
def _networks(proxies: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(each, strict=False) for each in proxies)


def is_trusted(address: str, proxies: tuple[str, ...]) -> bool:
    """Whether ``address`` is one of JMAP_TRUSTED_PROXIES."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in _networks(proxies))


def begin(request: Request, proxies: tuple[str, ...]) -> None:
    """This greenlet works for ``request`` from now on."""
    given = request.headers.get(HEADER, "")
    believed = context.is_id(given) and is_trusted(request.remote_addr or "", proxies)
    context.begin(given if believed else context.new_id())


def give_back(response: Response) -> Response:
    response.headers[HEADER] = context.request()
    return response
