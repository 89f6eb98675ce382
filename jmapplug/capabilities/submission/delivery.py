"""What one hand-over makes of each recipient's deliveryStatus (RFC 8621 §7), and of a refusal a SetError. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jmapplug.backends import Delivery
from jmapplug.capabilities.submission.store import Status, Statuses
from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug.jmap.errors import SetError

WAITING = "250 2.0.0 Waiting to be sent"
CANCELED = "554 5.5.0 Canceled before it was sent"
LOST = "554 5.3.0 The message was lost before it was sent"
UNSURE = "451 4.4.2 The connection was lost before the answer; whether the message was taken is not known"
CRASHED = "451 4.3.0 The service ended while the message was being handed over; whether it was taken is not known"
RESTORED = "451 4.3.0 The queue came back from a backup; whether the message was sent meanwhile is not known"
PARAMETER = "555 5.5.4 The mail server does not take a parameter of the envelope"
NO_LOGIN = "454 4.7.0 The mail server does not take the account's password for sending"
AWAY = "451 4.4.1 The mail server for sending cannot be reached at the moment"
UNUSABLE = "451 4.4.1 The mail server for sending cannot be used as it is set up"
TAKEN = "250 2.0.0 Taken"
_CODES = re.compile(r"([245])[0-9]{2}(?:[ -]([245]\.[0-9]{1,3}\.[0-9]{1,3}))?")


def queued(emails: Iterable[str]) -> Statuses:
    """The beginning."""
    return {email: Status(WAITING, "queued") for email in emails}


def open_recipients(statuses: Statuses) -> list[str]:
    """Those whom the message still has to be sent to."""
    return [email for email, status in statuses.items() if status.delivered == "queued"]


def all_open(statuses: Statuses, reply: str, delivered: str) -> Statuses:
    """The same for everybody who was still waiting; who was answered keeps that."""
    return {
        email: Status(reply, delivered, status.displayed) if status.delivered == "queued" else status
        for email, status in statuses.items()
    }


def settle(statuses: Statuses, delivery: Delivery) -> Statuses:
    """The statuses after a hand-over to those who were waiting: 4yz keeps waiting, 5yz is "no", else "unknown":

    that a server took it does not say that it arrived (RFC 8621 §7).
    """
    return {email: _settled(status, email, delivery) for email, status in statuses.items()}


def _settled(status: Status, email: str, delivery: Delivery) -> Status:
    if status.delivered != "queued":
        return status
    answer = delivery.answers.get(email)
    if answer is None:
        # A source that forgot somebody: taken is taken, and never sent again.
        return Status(TAKEN, "unknown", status.displayed) if delivery.accepted else status
    if answer.accepted and delivery.accepted:
        return Status(answer.reply, "unknown", status.displayed)
    reply = delivery.reply if answer.accepted and delivery.reply is not None else answer.reply
    return Status(reply, "no" if is_permanent(reply) else "queued", status.displayed)


def is_permanent(reply: str) -> bool:
    found = _CODES.match(reply)
    return found is not None and found[1] == "5"


def trouble(error: UpstreamError) -> str:
    """What recipients' statuses say while the server cannot be used; the error itself is for the log."""
    if isinstance(error, AuthenticationError):
        return NO_LOGIN
    return AWAY if error.temporary else UNUSABLE


def refusal(statuses: Statuses, stage: str, max_size: int) -> SetError:
    """Why nothing of an immediate send was taken, as an error of its creation (RFC 8621 §7.5, mail-rules 36)."""
    replies = {email: status.smtp_reply for email, status in statuses.items()}
    text = next(iter(replies.values()))
    if all(_is_size(reply) for reply in replies.values()):
        return SetError("tooLarge", text, maxSize=max_size)
    if stage == "mail":
        # X.7.1 and X.1.8 (bad sender's address): the sender is to blame; anything else is a refusal to send at all.
        blames_sender = text.startswith(("550", "551", "553", "501"))
        return SetError("forbiddenMailFrom" if blames_sender else "forbiddenToSend", text)
    if stage == "rcpt" and not all(_is_policy(reply) for reply in replies.values()):
        return SetError("invalidRecipients", text, invalidRecipients=list(replies))
    return SetError("forbiddenToSend", text)


def _is_size(reply: str) -> bool:
    return reply.startswith("552") or _enhanced(reply).endswith(".3.4")


def _is_policy(reply: str) -> bool:
    return reply.startswith("530") or _enhanced(reply).startswith("5.7.")


def _enhanced(reply: str) -> str:
    found = _CODES.match(reply)
    return (found[2] or "") if found else ""
