"""What a method is: a row in a table. Capabilities declare rows; dispatch runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jmapplug.jmap.errors import MethodError

Args = dict[str, Any]
Reply = dict[str, Any]
"""The arguments of a response. Values may be ``msgspec.Raw`` (JSON encoded already), at any depth."""


@dataclass(frozen=True, slots=True)
class Limits:
    """RFC 8620 §2: the core capability's limits, announced in the Session and enforced."""

    max_size_upload: int = 50_000_000
    max_concurrent_upload: int = 4
    max_size_request: int = 10_000_000
    max_concurrent_requests: int = 8
    max_calls_in_request: int = 64
    max_objects_in_get: int = 4096
    max_objects_in_set: int = 4096


def _no_table(name: str, args: Args) -> Reply:
    raise MethodError("unknownMethod", f"{name} cannot be called from here")


@dataclass(slots=True)
class Call:
    """One method call under way. ``account`` is what the worker keeps for the call's accountId; opaque to this package.

    ``created_ids`` maps creation ids to ids for the whole Request (RFC 8620 §3.3). ``extra`` collects invocations
    that follow this call's own response (RFC 8620 §5.4, RFC 8621 §7.5: implicit calls), as (name, arguments).
    ``invoke(name, arguments)`` runs another method of the table in this account, whether it is in ``using`` or not,
    and gives its response's arguments; it raises MethodError as that method does. ``credential`` names what was logged
    in with; the account's ``login`` knows which names are good now.
    """

    name: str
    account_id: str
    account: Any
    limits: Limits
    created_ids: dict[str, str]
    using: frozenset[str]
    credential: str = ""
    extra: list[tuple[str, Reply]] = field(default_factory=list)
    invoke: Callable[[str, Args], Reply] = field(default=_no_table)


Handler = Callable[[Call, Args], Reply]


@dataclass(frozen=True, slots=True)
class Method:
    """``capability``: the URN that must be in ``using``. ``also``: further URNs that admit it (real clients need it).

    ``of_login``: it works on what is the login's own and names no account (RFC 8620 §7.2); ``call.account`` is then the
    account logged in with. ``writes`` tells a method that may change something upstream; ``retry``: a second run is
    harmless (mail-rules 28).
    """

    name: str
    handler: Handler
    capability: str
    also: tuple[str, ...] = ()
    needs_account: bool = True
    of_login: bool = False
    writes: bool = False

    @property
    def retry(self) -> bool:
        return not self.writes


MethodTable = Mapping[str, Method]
