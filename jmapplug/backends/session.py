"""A backend, and what it opens for an account."""

from __future__ import annotations

import builtins
from typing import Any, ClassVar, Protocol

import msgspec

from jmapplug.backends.mail import MailSource
from jmapplug.backends.quota import QuotaSource
from jmapplug.backends.sieve import SieveSource
from jmapplug.backends.submission import SubmissionSource


class Session(Protocol):
    """One account's open upstream. Sources are properties that are None where this session has none.

    ``known`` is False while nobody can say yet what the upstream offers (it was never reached). A session may also
    have ``held``: the UpstreamError that every call would raise now, because the upstream must be left alone for
    ``retry_after`` seconds, None where it may be asked; and ``hold(error, seconds)``: begin with such a pause, which an
    earlier session of the same settings was in. ``on_renewed(news)``, where a session has it, is set by whoever opened
    it: called with secret settings (``{field: value}``) that the upstream has replaced, it stores them, and raises
    JmapplugError where it cannot. Its mail source may have ``alerts``: texts for the operator; and
    ``background_in``: octets received by passes and background calls (else JMAP_ACCOUNT_BANDWIDTH has no effect).
    """

    @property
    def known(self) -> bool: ...

    @property
    def mail(self) -> MailSource | None: ...

    @property
    def submission(self) -> SubmissionSource | None: ...

    @property
    def sieve(self) -> SieveSource | None: ...

    @property
    def quota(self) -> QuotaSource | None: ...

    def close(self) -> None: ...


class Backend(Protocol):
    """A kind of upstream, found by its ``type`` in ``POST /api/accounts``.

    ``settings`` is a msgspec Struct: its fields are the JSON fields of the management API (``username``, ``imapHost``…)
    with their defaults; it renders the form and validates the API. Fields whose name is in ``secrets`` are stored
    encrypted and never shown. ``public`` names the fields that lists of accounts show. A field ``sendAs`` (addresses or
    ``*@domain``) tells what may be sent from besides the account's own address.

    A class may also have ``notes(settings, email) -> str | None``: what does not work of the parts that an account can
    do without (sending), in words for the person who sets it up, asked of the object that has validated, when the
    worker runs already; and ``preload()`` (workers/preload.py).
    """

    type: ClassVar[str]
    label: ClassVar[str]
    settings: ClassVar[builtins.type[msgspec.Struct]]
    secrets: ClassVar[frozenset[str]]
    public: ClassVar[tuple[str, ...]]

    def validate(self, settings: Any, email: str) -> Any:
        """Complete the settings (discovery) and try them on the network; the settings to store.

        Raises ``SetupError(field, message)`` or ``UpstreamError``.
        """

    def check_password(self, settings: Any, email: str, password: str) -> bool:
        """Whether the upstream takes this password for this account (Basic authentication's last resort)."""

    def open(self, settings: Any, email: str) -> Session:
        """A session; connects lazily."""
