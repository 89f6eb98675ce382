"""The envelope of a submission (RFC 8621 §7): read from the client, or made from the Email's header. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from jmapplug.capabilities.submission.addresses import allowed, distinct, is_mailbox, is_pattern, matches
from jmapplug.capabilities.submission.store import Address, Envelope
from jmapplug.jmap.checks import is_utc_date
from jmapplug.jmap.errors import SetError

MAX_RECIPIENTS = 1_000
"""RFC 5321 §4.5.3.1.8 wants 100 at least; widespread servers take 1,000."""
MAX_DELAY = 30 * 86_400
"""Seconds; the account's maxDelayedSend."""

Email = Mapping[str, Any]
"""An Email as Email/get answers it, with ``HEADERS``."""
HEADERS = {
    name: f"header:{name}:asAddresses:all" for name in ("From", "Sender", "To", "Cc", "Bcc")
}  # a message may have a field more than once


def _rule(pattern: str) -> Callable[[str | None], bool]:
    compiled = re.compile(pattern)
    return lambda value: value is not None and compiled.fullmatch(value) is not None


class _Parameter(NamedTuple):
    """``extension``: the EHLO keyword that it belongs to; "" = this server's own business, said by nobody else."""

    extension: str
    check: Callable[[str | None], bool] = lambda value: True


# RFC 3461 §4, RFC 4865 §3, RFC 2852 §4, RFC 6710 §3, RFC 8689 §2; the last three are for whoever speaks SMTP to say.
MAIL_PARAMETERS = {
    "RET": _Parameter("DSN", _rule("(?i)FULL|HDRS")),
    "ENVID": _Parameter("DSN", _rule("[ -~]{1,100}")),
    "HOLDFOR": _Parameter("", _rule("[0-9]{1,9}")),
    "HOLDUNTIL": _Parameter("", lambda value: is_utc_date(value)),
    "BY": _Parameter("DELIVERBY", _rule("(?i)[+-]?[0-9]{1,9};[RN]T?")),
    "MT-PRIORITY": _Parameter("MT-PRIORITY", _rule("-?[0-9]")),
    "REQUIRETLS": _Parameter("REQUIRETLS", lambda value: value is None),
    "SIZE": _Parameter(""),
    "BODY": _Parameter(""),
    "SMTPUTF8": _Parameter(""),
}
RCPT_PARAMETERS = {
    "NOTIFY": _Parameter("DSN", _rule("(?i)NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}")),
    "ORCPT": _Parameter("DSN", _rule(r"(?s)[A-Za-z0-9\-]{1,40};[^\x00-\x1f\x7f]{1,500}")),
}
OURS = frozenset({"SIZE", "BODY", "SMTPUTF8", "HOLDFOR", "HOLDUNTIL"})
"""MAIL parameters that are not passed on as the client wrote them."""


def invalid(why: str) -> SetError:
    return SetError("invalidProperties", why, ["envelope"])


# --- what the client sent ------------------------------------------------------------------------------------------


class Given(NamedTuple):
    """The client's envelope; ``mail_from`` None: to be derived. ``rcpt_to`` None: no envelope was given."""

    mail_from: Address | None
    rcpt_to: tuple[Address, ...] | None


def given(value: Any, offered: frozenset[str] | None) -> Given:
    """Read the property; members that nobody knows are ignored, and ``mailfrom`` is aerc's spelling.

    ``offered``: the EHLO keywords of the server, None while they are not known. Raises SetError invalidProperties.
    """
    if value is None:
        return Given(None, None)
    if not isinstance(value, dict):
        raise invalid("envelope must be an object or null")
    sender = value.get("mailFrom", value.get("mailfrom"))
    mail_from = None if sender is None else _address(sender, MAIL_PARAMETERS, offered)
    # RFC 5321 §4.5.5: the empty return path, for messages that nobody must answer.
    if mail_from is not None and mail_from.email and not is_mailbox(mail_from.email):
        raise invalid("mailFrom is not an address that SMTP could name")
    recipients = value.get("rcptTo")
    if recipients is not None and not isinstance(recipients, list):
        raise invalid("rcptTo must be an array")
    found = [_address(each, RCPT_PARAMETERS, offered) for each in recipients or []]
    first = {each.email: each for each in reversed(found)}
    return Given(mail_from, tuple(first[email] for email in distinct(each.email for each in found)))


def _address(value: Any, table: Mapping[str, _Parameter], offered: frozenset[str] | None) -> Address:
    if not isinstance(value, dict) or not isinstance(value.get("email"), str):
        raise invalid("an address of the envelope must be an object with an email")
    parameters = value.get("parameters")
    if parameters is None:
        return Address(value["email"])
    if not isinstance(parameters, dict):
        raise invalid("parameters must be an object or null")
    return Address(value["email"], {name: _parameter(name, parameters[name], table, offered) for name in parameters})


def _parameter(name: str, value: Any, table: Mapping[str, _Parameter], offered: frozenset[str] | None) -> str | None:
    """A parameter's value, checked. RFC 8621 §1.3.2: only what submissionExtensions says may be used."""
    text = str(value) if type(value) is int else value
    known = table.get(name.upper())
    if known is None or not (text is None or isinstance(text, str)) or not known.check(text):
        raise invalid(f"the parameter {name[:50]} is not known or has a wrong value")
    if known.extension and offered is not None and known.extension not in offered:
        raise invalid(f"the mail server does not take the parameter {name[:50]}")
    return text


def hold_until(mail_from: Address | None, now: int) -> int | None:
    """When the client wants it to be released (RFC 4865); None: at once. Raises SetError invalidProperties."""
    given_ = {name.upper(): value for name, value in ((mail_from and mail_from.parameters) or {}).items()}
    hold_for, until = given_.get("HOLDFOR"), given_.get("HOLDUNTIL")
    if hold_for is not None and until is not None:
        raise invalid("HOLDFOR and HOLDUNTIL exclude each other")
    if hold_for is None and until is None:
        return None
    moment = now + int(hold_for) if hold_for is not None else _unix(str(until))
    if moment > now + MAX_DELAY:
        raise invalid(f"a message is held {MAX_DELAY} seconds at most")
    return moment if moment > now else None


def _unix(text: str) -> int:
    # A leap second (":60") is legal and unknown to Python.
    return int(datetime.fromisoformat(text.replace(":60", ":59", 1) if text[16:19] == ":60" else text).timestamp())


def utc_date(moment: int) -> str:
    """UTCDate of RFC 8620 §1.4."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- what the Email says -------------------------------------------------------------------------------------------


def addresses_of(email: Email, field: str) -> list[list[str]]:
    """The addresses of each field of this name."""
    return [[each["email"] for each in one or ()] for one in email.get(HEADERS[field]) or ()]


def check_from(email: Email, may: tuple[str, ...]) -> None:
    """Raises SetError invalidEmail (no From, RFC 5322 §3.6), forbiddenFrom."""
    authors = [each for field in addresses_of(email, "From") for each in field]
    if not authors or not all(authors):
        raise SetError("invalidEmail", "The message has no From address.", ["from"])
    if not all(allowed(each, may) for each in authors):
        raise SetError("forbiddenFrom", "This account may not send from the address in the message's From.")


def complete(asked: Given, email: Email, identity: str, may: tuple[str, ...]) -> Envelope:
    """The envelope to send with. ``identity``: its email; ``may``: what the account may send from.

    Raises SetError invalidEmail, forbiddenMailFrom, noRecipients, tooManyRecipients, invalidRecipients.
    """
    recipients = asked.rcpt_to
    if recipients is None:
        named = [each for field in ("To", "Cc", "Bcc") for one in addresses_of(email, field) for each in one]
        recipients = tuple(Address(each) for each in distinct(each for each in named if each))
    if not recipients:
        raise SetError("noRecipients", "The message has no recipients.")
    if len(recipients) > MAX_RECIPIENTS:
        raise SetError("tooManyRecipients", f"At most {MAX_RECIPIENTS} recipients", maxRecipients=MAX_RECIPIENTS)
    wrong = [each.email for each in recipients if not is_mailbox(each.email)]
    if wrong:
        raise SetError("invalidRecipients", "These are no addresses to send to.", invalidRecipients=wrong)
    sender = asked.mail_from
    if sender is None:
        parameters = None
        sender = Address(_sender(email, identity, derive=asked.rcpt_to is None), parameters)
    if sender.email and not allowed(sender.email, may):
        raise SetError("forbiddenMailFrom", "This account may not send with this return address.")
    return Envelope(sender, recipients)


def _sender(email: Email, identity: str, *, derive: bool) -> str:
    """RFC 8621 §7: the Sender's address, else the From's, where the Identity allows it; else the Identity's own."""
    for field in ("Sender", "From"):
        found = addresses_of(email, field)
        if not found:
            continue
        if derive and (len(found) > 1 or len(found[-1]) > 1):
            text = f"There is more than one {field} address: name the envelope's mailFrom."
            raise SetError("invalidEmail", text, [field.lower()])
        if found[-1] and matches(found[-1][0], identity):
            return found[-1][0]
        break
    if not is_pattern(identity):
        return identity
    # "*@domain" is no address: an author of that domain, and there is none.
    authors = [each for one in addresses_of(email, "From") for each in one if matches(each, identity)]
    if not authors:
        raise SetError("forbiddenMailFrom", "The Identity has no address that this message could be sent with.")
    return authors[0]


def envelope_json(envelope: Envelope) -> dict[str, Any]:
    """As answered."""
    value: dict[str, Any] = msgspec.to_builtins(envelope)
    return value
