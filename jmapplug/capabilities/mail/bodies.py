"""EmailBodyPart objects and bodyValues (RFC 8621 §4.1.4, §4.2), the same for Email/get and Email/parse."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from jmapplug.capabilities.mail.headers import Fields, HeaderProperty, header_list, parse_property
from jmapplug.capabilities.mail.structures import Message
from jmapplug.jmap.checks import Checker, is_bool, is_uint
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Args
from jmapplug.mime.body import body_lists, part_id
from jmapplug.mime.decode import decode_text
from jmapplug.mime.structure import Part

VALUE_MAX = 10_000_000
"""Octets of one value at most, also where the client sets no limit; more is ``isTruncated``."""

CALL_MAX = 48_000_000
"""Octets of all values of one call: an answer is made in memory."""

_READ_MAX = 64_000_000

PartField = Callable[[Part, Message], Any]

_FIELDS: dict[str, PartField] = {
    "partId": lambda part, message: None if part.multipart else part_id(part),
    "blobId": lambda part, message: None if part.multipart else message.blob_id(part),
    "name": lambda part, message: part.name,
    "type": lambda part, message: part.type,
    # RFC 8621 §4.1.4: the implicit charset of a text part is us-ascii.
    "charset": lambda part, message: part.charset or ("us-ascii" if part.type.startswith("text/") else None),
    "disposition": lambda part, message: part.disposition,
    "cid": lambda part, message: part.cid,
    "language": lambda part, message: None if part.language is None else list(part.language),
    "location": lambda part, message: part.location,
}
_SPECIAL = frozenset({"size", "headers", "subParts"})

DEFAULT_PROPERTIES = (
    "partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language", "location",
)  # fmt: skip
"""RFC 8621 §4.2."""


def is_body_properties(value: Any) -> bool:
    """Whether this is a list of EmailBodyPart properties, ``header:`` ones in allowed forms."""
    return isinstance(value, list) and all(isinstance(name, str) and _known(name) for name in value)


def _known(name: str) -> bool:
    return name in _FIELDS or name in _SPECIAL or parse_property(name) is not None


EXTRA_ARGS: dict[str, Checker] = {
    "bodyProperties": is_body_properties,
    "fetchTextBodyValues": is_bool,
    "fetchHTMLBodyValues": is_bool,
    "fetchAllBodyValues": is_bool,
    "maxBodyValueBytes": is_uint,
}
"""The arguments that Email/get and Email/parse have beyond the standard ones."""


class Budget:
    """What one call may still answer in values."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = CALL_MAX

    def spend(self, octets: int) -> None:
        """Raises MethodError requestTooLarge: RFC 8620 §5.1, more was asked for than is answered in one call."""
        self.left -= octets
        if self.left < 0:
            raise MethodError("requestTooLarge", "The body values are too much for one answer: ask for fewer Emails.")


class BodyRequest(msgspec.Struct, frozen=True):
    """Which body properties are asked for, and how. ``fields``: per part; ``limit``: octets of a value, 0 = none."""

    wanted: frozenset[str]
    fields: tuple[tuple[str, PartField], ...]
    headers: tuple[tuple[str, HeaderProperty], ...]
    size: bool
    all_headers: bool
    sub_parts: bool
    text: bool
    html: bool
    every: bool
    limit: int
    budget: Budget


def request(wanted: frozenset[str], args: Args) -> BodyRequest:
    """The request in checked arguments (``EXTRA_ARGS``)."""
    names = args.get("bodyProperties", DEFAULT_PROPERTIES)
    headers = [(name, parsed) for name in names if (parsed := parse_property(name)) is not None]
    return BodyRequest(
        wanted=wanted,
        fields=tuple((name, _FIELDS[name]) for name in names if name in _FIELDS),
        headers=tuple(headers),
        size="size" in names,
        all_headers="headers" in names,
        sub_parts="subParts" in names,
        text=args.get("fetchTextBodyValues", False),
        html=args.get("fetchHTMLBodyValues", False),
        every=args.get("fetchAllBodyValues", False),
        limit=args.get("maxBodyValueBytes", 0),
        budget=Budget(),
    )


def render(message: Message, wish: BodyRequest) -> dict[str, Any]:
    """The body properties of one message. Raises ``fetch.Gone``, MethodError serverUnavailable."""
    text, html, attachments = body_lists(message.root)
    lists = {"textBody": text, "htmlBody": html, "attachments": attachments}
    answer: dict[str, Any] = {}
    if "bodyValues" in wish.wanted:
        # First: a text that is fetched for its value need not be measured.
        answer["bodyValues"] = _values(message, wish, text, html)
    shown = [part for name, parts in lists.items() if name in wish.wanted for part in parts]
    if "bodyStructure" in wish.wanted:
        shown += message.root.walk()
    facts = _facts(message, wish, list({part.section: part for part in shown}.values()))
    for name, parts in lists.items():
        if name in wish.wanted:
            answer[name] = [facts(part) for part in parts]
    if "bodyStructure" in wish.wanted:
        answer["bodyStructure"] = _tree(message.root, facts)
    return answer


def _facts(message: Message, wish: BodyRequest, shown: list[Part]) -> Callable[[Part], dict[str, Any]]:
    """How a part is shown, with sizes and headers of all of them at hand (as few round trips as can be)."""
    sizes = message.sizes(shown) if wish.size else {}
    headers: dict[str, Fields] = message.part_fields(shown) if wish.headers or wish.all_headers else {}

    def facts(part: Part) -> dict[str, Any]:
        found = {name: field(part, message) for name, field in wish.fields}
        if wish.size:
            found["size"] = sizes[part.section]
        if wish.all_headers:
            found["headers"] = header_list(headers[part.section])
        for name, parsed in wish.headers:
            found[name] = parsed.value(headers[part.section])
        if wish.sub_parts:
            found["subParts"] = None
        return found

    return facts


def _tree(part: Part, facts: Callable[[Part], dict[str, Any]]) -> dict[str, Any]:
    """bodyStructure is "the full MIME structure": a multipart shows its parts whether they were named or not."""
    found = facts(part)
    if part.multipart:
        found["subParts"] = [_tree(child, facts) for child in part.parts]
    return found


def _values(message: Message, wish: BodyRequest, text: list[Part], html: list[Part]) -> dict[str, Any]:
    parts: dict[str, Part] = {}

    def add(some: Iterable[Part]) -> None:
        parts.update((part.section, part) for part in some if part.type.startswith("text/"))

    if wish.text:
        add(text)
    if wish.html:
        add(html)
    if wish.every:
        add(message.root.walk())
    values = {}
    for part in parts.values():
        value = values[part_id(part)] = body_value(message, part, wish.limit)
        wish.budget.spend(len(value["value"]))
    return values


def body_value(message: Message, part: Part, limit: int) -> dict[str, Any]:
    """EmailBodyValue of a text part; ``limit`` in octets of UTF-8, 0 = none but :data:`VALUE_MAX`."""
    limit = min(limit or VALUE_MAX, VALUE_MAX)
    html = part.type == "text/html"
    octets, whole, broken = message.text(part, 4 * limit + 4_096)
    decoded = decode_text(octets, "binary", part.charset, limit=limit, html=html)
    if not whole and not decoded.truncated:
        # A charset whose octets are mostly escapes: what was read is not what the limit allows.
        octets, whole, broken = message.text(part, _READ_MAX)
        decoded = decode_text(octets, "binary", part.charset, limit=limit, html=html)
    return {
        "value": decoded.text,
        "isEncodingProblem": decoded.problem or broken,
        "isTruncated": decoded.truncated or not whole,
    }
