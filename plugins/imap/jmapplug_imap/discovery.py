"""Where a domain's IMAP server is: SRV records (RFC 6186, RFC 8314 §5.1), with a deadline."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jmapplug.errors import SetupError
from jmapplug_imap.settings import STARTTLS, TLS

DEADLINE = 5.0  # seconds for one SRV question, all its retries included


class Service(NamedTuple):
    """One SRV record."""

    priority: int
    weight: int
    port: int
    target: str


class Offer(NamedTuple):
    """A server to try; ``security`` is an SSL number of the settings."""

    host: str
    port: int
    security: int


Lookup = Callable[[str], Sequence[Service]]

# RFC 8314 §5.1: TLS from the first byte before STARTTLS, whatever the priorities say.
_SERVICES = (("_imaps._tcp", TLS), ("_imap._tcp", STARTTLS))


def srv_records(name: str) -> list[Service]:
    """The SRV records of a name; [] where there are none or nobody answers within DEADLINE."""
    import dns.exception  # only accounts without a host need it
    import dns.resolver

    try:
        answer = dns.resolver.resolve(name, "SRV", lifetime=DEADLINE)
    except (dns.exception.DNSException, OSError):
        return []
    return [Service(r.priority, r.weight, r.port, r.target.to_text(omit_final_dot=True)) for r in answer]


def find_imap(email: str, lookup: Lookup | None = None) -> Offer:
    """The best announced IMAP server for an address. Raises SetupError("imapHost") where none is announced."""
    domain = _domain(email)
    for label, security in _SERVICES:
        records = [r for r in (lookup or srv_records)(f"{label}.{domain}") if r.target not in ("", ".") and r.port]
        if records:
            # RFC 2782: the lowest priority; among equals by weight.
            best = min(record.priority for record in records)
            equals = [record for record in records if record.priority == best]
            chosen = random.choices(equals, [record.weight + 1 for record in equals])[0]  # noqa: S311
            return Offer(chosen.target, chosen.port, security)
    raise SetupError("imapHost", f"no IMAP server is announced for {domain}: give imapHost")


def _domain(email: str) -> str:
    domain = email.rpartition("@")[2].strip().rstrip(".")
    try:
        ascii_name = domain.encode("idna").decode("ascii") if domain else ""
    except UnicodeError:
        ascii_name = ""
    if "@" not in email or not ascii_name or not all(c.isalnum() or c in "-._" for c in ascii_name):
        raise SetupError("imapHost", "the e-mail address has no domain to look the server up in: give imapHost")
    return ascii_name
