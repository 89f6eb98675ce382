"""The vacation script: a VacationResponse as Sieve (RFC 5230, RFC 5260), and back.

The values stand as JSON in comments at its top, under a digest of all that follows; so what is upstream is the truth,
and a script that somebody edited by hand is known by its digest. A response that is off has no action at all: wherever
the script is included, it does nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from email import policy
from email.message import EmailMessage
from itertools import takewhile
from typing import Any

import msgspec

from jmapplug.capabilities.sieve.reading import commands, quoted
from jmapplug.jmap.checks import is_utc_date
from jmapplug.mime.preview import html_to_text

_TITLE = "# Made by jmapplug from VacationResponse/set; what is changed here by hand is replaced there.\n"
_DIGEST = "#digest "
_JSON = "#json "
_CHUNK = 900
_LONGEST = 900
"""Octets of a line of text as it is; RFC 5322 §2.1.1 allows 998 in a message."""
DEFAULT_TEXT = "This is an automatic reply: I am away, and will read your message when I am back."


class Vacation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """RFC 8621 §8, without its id. ``edited``: the script upstream is not ours any more; then nothing else is known."""

    isEnabled: bool = False
    fromDate: str | None = None
    toDate: str | None = None
    subject: str | None = None
    textBody: str | None = None
    htmlBody: str | None = None


def render(vacation: Vacation, addresses: Sequence[str]) -> bytes:
    """The script; CRLF line ends. The same values give the same octets. ``addresses``: the user's own."""
    text = _ascii(msgspec.json.encode(vacation).decode())
    chunks = [_JSON + text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    rest = "\n".join([*chunks, *(_action(vacation, addresses) if vacation.isEnabled else ["# It is off."]), ""])
    rest = rest.replace("\r\n", "\n")
    return f"{_TITLE}{_DIGEST}{_digest(rest)}\n{rest}".replace("\n", "\r\n").encode()


def parse(content: bytes) -> Vacation | None:
    """The values of a script that :func:`render` made; None for anything else."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    head, _, rest = text.removeprefix(_TITLE).partition("\n")
    if not text.startswith(_TITLE) or head != _DIGEST + _digest(rest):
        return None
    # Only those at the top: a line of the response's own text may look like one.
    lines = takewhile(lambda line: line.startswith(_JSON), rest.split("\n"))
    joined = "".join(line.removeprefix(_JSON) for line in lines)
    try:
        return msgspec.json.decode(joined, type=Vacation)
    except msgspec.DecodeError:
        return None


def needed(vacation: Vacation) -> list[str]:
    """The Sieve extensions that the script requires."""
    return ["vacation", *(["date", "relational"] if vacation.fromDate or vacation.toDate else [])]


def answers(content: bytes) -> bool:
    """Whether a script that is not ours any more has a vacation action."""
    return "vacation" in commands(content)


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()


def _ascii(text: str) -> str:
    """JSON with "\\u…" for everything beyond ASCII: no line can end inside a character."""
    return "".join(char if char.isascii() else _escape(char) for char in text)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


# --- the action


def _action(vacation: Vacation, addresses: Sequence[str]) -> list[str]:
    requires = ", ".join(quoted(name) for name in needed(vacation))
    # RFC 5230 §4.5: mail that names none of the user's addresses in To or Cc is not answered.
    parts = ["vacation", ":addresses", f"[{', '.join(map(quoted, addresses))}]"]
    if vacation.subject is not None:
        parts += [":subject", quoted(_one_line(vacation.subject))]
    text = DEFAULT_TEXT if vacation.textBody is None else vacation.textBody
    if vacation.htmlBody is not None:
        text = html_to_text(vacation.htmlBody) if vacation.textBody is None else text
        parts += [":mime", quoted(_mime(text, vacation.htmlBody))]
    elif any(len(line.encode("utf-8", "replace")) > _LONGEST for line in text.splitlines()):
        parts += [":mime", quoted(_mime(text))]
    else:
        parts.append(quoted(text))
    action = " ".join(parts) + ";"
    tests = [
        *([_not_before(vacation.fromDate)] if vacation.fromDate else []),
        *([f"not {_not_before(vacation.toDate)}"] if vacation.toDate else []),
    ]
    lines = [f"require [{requires}];"]
    return [*lines, f"if allof({', '.join(tests)}) {{", action, "}"] if tests else [*lines, action]


def _not_before(date: str) -> str:
    """True from this UTCDate on. RFC 5260 §4: date and time as parts, since "iso8601" is spelt in more than one way."""
    assert is_utc_date(date)
    day, time = date[:10], date[11:19]
    now = 'currentdate :zone "+0000"'
    return (
        f'anyof({now} :value "gt" "date" {quoted(day)},'
        f' allof({now} :is "date" {quoted(day)}, {now} :value "ge" "time" {quoted(time)}))'
    )


def _one_line(text: str) -> str:
    """A header field's value: no line break and no control character may come out of it."""
    return "".join(" " if char < " " or char in "\x7f\x85\u2028\u2029" else char for char in text)


def _mime(text: str, html: str | None = None) -> str:
    """A MIME entity (RFC 5230 §4.3): 7-bit and in short lines, so that nothing on the way has to touch it."""
    message = EmailMessage(policy=policy.SMTP)
    message.set_content(_clean(text), cte="base64")
    if html is not None:
        message.add_alternative(_clean(html), subtype="html", cte="base64")
        # The same values make the same script.
        message.set_boundary("=_" + hashlib.sha256(f"{text}\0{html}".encode("utf-8", "replace")).hexdigest()[:32])
    del message["MIME-Version"]
    return message.as_bytes().decode("ascii")


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def json_of(vacation: Vacation) -> dict[str, Any]:
    """The object as clients see it."""
    return {"id": "singleton", **msgspec.to_builtins(vacation)}
