"""Header properties of a new Email or body part → header fields (RFC 8621 §4.1.2, §4.1.3, §4.6).

Words: a *path* is where a property stands, as clients are told of it ("subject", "bodyStructure/subParts/0/name").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jmapplug.capabilities.mail.headers import HeaderProperty, parse_property
from jmapplug.capabilities.mail.properties import CONVENIENCE
from jmapplug.jmap.checks import is_date
from jmapplug.jmap.errors import SetError
from jmapplug.mime import write_headers
from jmapplug.mime.write_headers import Unwritable

Record = Mapping[str, Any]

_SPELLINGS = {
    name.lower(): name
    for name in (
        "Date", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Message-ID", "In-Reply-To", "References", "Subject",
        "Comments", "Keywords", "MIME-Version", "Content-Type", "Content-Disposition", "Content-ID",
        "Content-Language", "Content-Location", "Content-Description",
    )
}  # fmt: skip
_PROPERTIES = {name: HeaderProperty(field, form, False) for (field, form), name in CONVENIENCE.items()}
_ORDER = {name.lower(): place for place, name in enumerate(_SPELLINGS.values())}
_FRACTION = re.compile(r"\.\d+(?=Z|[+-]|\Z)")
# RFC 5322 §3.6: what stands in a message once at most. Two From fields are how a forged one gets past a check.
_ONCE = frozenset(field for field, _ in CONVENIENCE) | {"mime-version"}
# What is written as nothing at all: an empty list is no field (RFC 5322 knows no empty address list).
_LISTS = frozenset({"Addresses", "GroupedAddresses", "MessageIds", "URLs"})


def invalid(description: str, *paths: str) -> SetError:
    """RFC 8620 §5.3 invalidProperties; at most 20 paths, each cut to a readable length."""
    return SetError("invalidProperties", description, [path[:200] for path in paths[:20]])


class Field(NamedTuple):
    """All instances of one header field. ``name`` is in lower case, ``path`` that of the property it came from."""

    name: str
    path: str
    octets: bytes


def is_header_property(name: str, *, email: bool) -> bool:
    """Whether the name means a header field; ``email``: the convenience properties count too."""
    return name.startswith("header:") or (email and name in _PROPERTIES)


def fields_of(record: Record, path: str = "") -> dict[str, Field]:
    """The header fields that the properties of an Email (``path`` "") or of the part at ``path`` stand for, by name.

    Raises SetError invalidProperties: an impossible or forbidden form, a value of another type, two properties for
    one field (RFC 8621 §4.6).
    """
    found: dict[str, Field] = {}
    for name, value in record.items():
        if value is None or not is_header_property(name, email=not path):
            continue
        here = path + name
        parsed = _PROPERTIES.get(name) if not path else None
        parsed = parsed or parse_property(name)
        if parsed is None:
            raise invalid("There is no such header property, or its form is forbidden for this field", here)
        if parsed.field in found:
            raise invalid("Two properties stand for the same header field", found[parsed.field].path, here)
        octets = _written(_spelling(name, parsed), parsed, value, here)
        if octets:
            found[parsed.field] = Field(parsed.field, here, octets)
    return found


def _spelling(name: str, parsed: HeaderProperty) -> str:
    return _SPELLINGS.get(parsed.field) or name.split(":")[1]


def _written(name: str, parsed: HeaderProperty, value: Any, path: str) -> bytes:
    values = value if parsed.every else [value]
    if not isinstance(values, list):
        raise invalid("The value must be an array", path)
    if len(values) > 1 and (parsed.field in _ONCE or parsed.field.startswith("content-")):
        raise invalid("A message or part has this header field once", path)
    return b"".join(_instance(name, parsed, one, path) for one in values)


def _instance(name: str, parsed: HeaderProperty, value: Any, path: str) -> bytes:
    accepted = _FORMS[parsed.form](value)
    if accepted is None:
        raise invalid(f"The value does not have the type of the {parsed.form} form", path)
    if parsed.form in _LISTS and not accepted:
        return b""
    if parsed.field == "message-id" and parsed.form == "MessageIds" and len(accepted) > 1:
        # RFC 5322 §3.6.4: a message has one identity.
        raise invalid("A message has one Message-ID", path)
    try:
        return write_headers.FORMS[parsed.form](name, accepted)
    except Unwritable as error:
        raise invalid(str(error), path) from None


def ordered(fields: Mapping[str, Field]) -> list[bytes]:
    """The fields as they are written: the known ones in the order of RFC 5322 §3.6, then the others as given."""
    return [one.octets for one in sorted(fields.values(), key=lambda one: _ORDER.get(one.name, len(_ORDER)))]


# --- the types of the forms: the value to write, or None where it has another type ------------------------------------


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _date(value: Any) -> str | None:
    # Clients write the ".000Z" of JavaScript, which RFC 8620 §1.4 does not allow.
    text = _FRACTION.sub("", value, count=1) if isinstance(value, str) else None
    return text if is_date(text) else None


def _texts(value: Any) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else None


def _addresses(value: Any) -> list[dict[str, Any]] | None:
    if not isinstance(value, list):
        return None
    found = []
    for one in value:
        if not isinstance(one, dict) or not isinstance(one.get("email"), str):
            return None
        if not isinstance(one.get("name"), str | None):
            return None
        found.append({"name": one.get("name"), "email": one["email"]})
    return found


def _groups(value: Any) -> list[dict[str, Any]] | None:
    if not isinstance(value, list):
        return None
    found = []
    for one in value:
        members = _addresses(one.get("addresses")) if isinstance(one, dict) else None
        if members is None or not isinstance(one.get("name"), str | None):
            return None
        found.append({"name": one.get("name"), "addresses": members})
    return found


_FORMS: dict[str, Callable[[Any], Any]] = {
    "Raw": _text,
    "Text": _text,
    "Addresses": _addresses,
    "GroupedAddresses": _groups,
    "MessageIds": _texts,
    "Date": _date,
    "URLs": _texts,
}
