"""``header:{name}[:as{form}][:all]`` properties of Emails and body parts (RFC 8621 §4.1.2, §4.1.3).

Words: a *field* is (name as written, raw value) as ``mime.headers.split`` gives it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from jmapplug.mime import headers as mime

Fields = Sequence[tuple[str, bytes]]

_SYNTAX = re.compile(r"header:([!-9;-~]{1,200})(?::as([A-Za-z]{1,20}))?(:all)?")

_SENDERS_AND_RECIPIENTS = ("from", "sender", "reply-to", "to", "cc", "bcc")
_ADDRESSES = frozenset(_SENDERS_AND_RECIPIENTS) | {f"resent-{name}" for name in _SENDERS_AND_RECIPIENTS}
_IDS = frozenset({"message-id", "in-reply-to", "references", "resent-message-id"})
_DATES = frozenset({"date", "resent-date"})
_URLS = frozenset(f"list-{name}" for name in ("help", "unsubscribe", "subscribe", "post", "owner", "archive"))
_TEXTS = frozenset({"subject", "comments", "keywords"})
# Defined in RFC 5322 or RFC 2369: a parsed form of these is allowed only where RFC 8621 §4.1.2.x names the field.
_DEFINED = _ADDRESSES | _IDS | _DATES | _URLS | _TEXTS | {"return-path", "received"}


class Form(msgspec.Struct, frozen=True):
    """A parsed form: how to parse, and which of the fields defined in the RFCs may be read in it."""

    parse: Callable[[bytes], Any]
    fields: frozenset[str]


FORMS: dict[str, Form] = {
    "Raw": Form(mime.as_raw, _DEFINED),
    "Text": Form(mime.as_text, _TEXTS),
    "Addresses": Form(mime.as_addresses, _ADDRESSES),
    "GroupedAddresses": Form(mime.as_grouped_addresses, _ADDRESSES),
    "MessageIds": Form(mime.as_message_ids, _IDS),
    "Date": Form(mime.as_date, _DATES),
    "URLs": Form(mime.as_urls, _URLS),
}


class HeaderProperty(msgspec.Struct, frozen=True):
    """A property name taken apart. ``field`` is in lower case: names match case insensitively."""

    field: str
    form: str
    every: bool

    def value(self, fields: Fields) -> Any:
        """The property of an entity with these fields: the last instance, or all of them (RFC 8621 §4.1.3)."""
        parse = FORMS[self.form].parse
        values = [value for name, value in fields if name.lower() == self.field]
        if self.every:
            return [parse(value) for value in values]
        return parse(values[-1]) if values else None


@lru_cache(maxsize=512)
def parse_property(name: str) -> HeaderProperty | None:
    """The property that ``name`` means; None where it is no ``header:`` property or the field forbids the form."""
    found = _SYNTAX.fullmatch(name)
    if found is None:
        return None
    field, form, every = found[1].lower(), found[2] or "Raw", found[3] is not None
    if form not in FORMS or (field in _DEFINED and field not in FORMS[form].fields):
        return None
    return HeaderProperty(field, form, every)


def header_list(fields: Fields) -> list[dict[str, str]]:
    """EmailHeader[]: every field in its order, in Raw form (RFC 8621 §4.1.3)."""
    return [{"name": name, "value": mime.as_raw(value)} for name, value in fields]
