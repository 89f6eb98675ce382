"""Sending mail upstream (RFC 6409)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec


class SubmissionFeatures(msgspec.Struct, frozen=True):
    """What EHLO told after login. ``size`` 0: no limit told. ``future_release``: seconds that HOLDFOR takes, 0 = none.

    ``extensions``: every EHLO keyword in upper case → its arguments (RFC 8621 §7 submissionExtensions).
    """

    size: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    future_release: int = 0
    deliver_by: bool = False
    mt_priority: bool = False
    extensions: dict[str, tuple[str, ...]] = {}


class EnvelopeAddress(msgspec.Struct, frozen=True):
    """RFC 8621 §7 Address: an SMTP mailbox and its MAIL or RCPT parameters (None: one without a value)."""

    email: str
    parameters: dict[str, str | None] = {}


class Answered(msgspec.Struct, frozen=True):
    """What the server said to one recipient: the reply's lines as one text ("250 2.1.5 Ok"), and whether it took it."""

    reply: str
    accepted: bool


class Delivery(msgspec.Struct, frozen=True):
    """The end of one hand-over. ``answers``: recipient → Answered. ``reply``: to DATA or its end; None: not reached.

    ``stage`` is the command that decided: "mail" (the sender or the message as a whole was refused, every recipient has
    that reply), "rcpt" (no recipient was taken) or "data".
    """

    answers: dict[str, Answered]
    reply: str | None = None
    accepted: bool = False
    stage: str = "data"


class SubmissionSource(Protocol):
    """Sending mail upstream (RFC 6409). Safe to call from several greenlets; each call has a connection of its own."""

    def features(self) -> SubmissionFeatures:
        """From the last EHLO; connects when there was none. Raises UpstreamError."""

    def send(
        self,
        mail_from: EnvelopeAddress,
        recipients: Sequence[EnvelopeAddress],
        message: Path,
        on_data: Callable[[], None],
    ) -> Delivery:
        """Hand over the file ``message`` (CRLF line ends) once; a refusal is a Delivery, not an exception.

        ``on_data`` is called when MAIL and RCPT are through and the very next octets are the message's: from then on
        a crash leaves it *unsure* whether it was sent; an exception of ``on_data`` ends the hand-over before anything
        of the message has left. Raises UpstreamError when the connection fails before the end of the message was sent
        (nothing was taken: it may be tried again), UpstreamError(code="unsure") when it fails after that without an
        answer, and UpstreamError(code="parameter") for a parameter that the server does not take.
        """
