"""SMTP mailboxes (RFC 5321 §4.1.2, RFC 6531 §3.3) and the patterns that say which of them an account may send from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

LOCAL_MAX, DOMAIN_MAX = 64, 255
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\ud7ff\ue000-\U0010ffff]"
_LOCAL = re.compile(rf'{_ATEXT}+(?:\.{_ATEXT}+)*|"(?:[ !#-\[\]-~\u00a0-\ud7ff\ue000-\U0010ffff]|\\[ -~])*"')
_LETTER = r"A-Za-z0-9_\u00a1-\ud7ff\uf900-\U0010ffff"
_LABEL = rf"[{_LETTER}](?:[{_LETTER}\-]*[{_LETTER}])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def is_mailbox(email: str) -> bool:
    """Whether this is a Mailbox that a MAIL or RCPT command may name."""
    local, at, domain = email.rpartition("@")
    if not at or len(local.encode("utf-8", "replace")) > LOCAL_MAX or len(domain) > DOMAIN_MAX:
        return False
    if _LOCAL.fullmatch(local) is None:
        return False
    return _is_literal(domain) if domain.startswith("[") else _DOMAIN.fullmatch(domain) is not None


def _is_literal(domain: str) -> bool:
    inside = domain[1:-1] if domain.endswith("]") else ""
    try:
        ipaddress.ip_address(inside[5:] if inside.lower().startswith("ipv6:") else inside)
    except ValueError:
        return False
    return True


def is_pattern(email: str) -> bool:
    """``*@domain``: any address of a domain (RFC 8621 §6)."""
    return email.startswith("*@") and _DOMAIN.fullmatch(email[2:]) is not None


def matches(email: str, pattern: str) -> bool:
    """Whether an address (or pattern) is one that ``pattern`` allows; without regard to case, as mail servers do."""
    one, other = email.casefold(), pattern.casefold()
    return one == other or (other.startswith("*@") and one.rpartition("@")[2] == other[2:])


def allowed(email: str, patterns: Iterable[str]) -> bool:
    return any(matches(email, pattern) for pattern in patterns)


def distinct(emails: Iterable[str]) -> list[str]:
    """Each address once, as it was written first; domains are compared without regard to case."""
    seen: dict[str, str] = {}
    for email in emails:
        local, _, domain = email.rpartition("@")
        seen.setdefault(f"{local}@{domain.lower()}", email)
    return list(seen.values())
