"""The MDN objects that clients send (RFC 9007 §2): what they may hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from jmapplug.capabilities.mdn import report
from jmapplug.jmap.checks import Checker, is_bool, is_string, map_of, nullable, one_of
from jmapplug.jmap.errors import SetError
from jmapplug.jmap.sets import is_reference

MAX_VALUE = 1_000
MAX_TEXT = 256 * 1024
MAX_EXTENSIONS = 50

_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,100}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_DISPOSITION = {
    "actionMode": one_of(*report.ACTION_MODES),
    "sendingMode": one_of(*report.SENDING_MODES),
    "type": one_of(*report.TYPES),
}
SERVER_SET = ("mdnGateway", "originalRecipient", "originalMessageId", "error")


def _line(value: Any) -> bool:
    """One line of text: what becomes a field of the notification must not become two."""
    return is_string(value) and 0 < len(value.strip()) <= len(value) <= MAX_VALUE and _CONTROLS.search(value) is None


def _extension(name: Any) -> bool:
    return _FIELD_NAME.fullmatch(name) is not None and name.lower() not in report.RESERVED


def _extensions(value: Any) -> bool:
    return map_of(_extension, _line)(value) and len(value) <= MAX_EXTENSIONS


def _disposition(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == _DISPOSITION.keys()
        and all(check(value[name]) for name, check in _DISPOSITION.items())
    )


def _null(value: Any) -> bool:
    return value is None


_CHECKS: Mapping[str, Checker] = {
    "forEmailId": is_reference,
    "subject": nullable(lambda value: is_string(value) and len(value) <= MAX_VALUE),
    "textBody": nullable(lambda value: is_string(value) and len(value) <= MAX_TEXT),
    "includeOriginalMessage": is_bool,
    "reportingUA": nullable(_line),
    "disposition": _disposition,
    "finalRecipient": nullable(_line),
    "extensionFields": nullable(_extensions),
    **dict.fromkeys(SERVER_SET, _null),
}
_DEFAULTS: Mapping[str, Callable[[], Any]] = {"includeOriginalMessage": lambda: False}


def checked(record: Mapping[str, Any]) -> report.Mdn:
    """Every property of the MDN, those left out at their default. Raises SetError, naming all that is wrong."""
    given = dict(record)
    if "extension" in given:
        # The name in the RFC's own example (§3.1).
        given.setdefault("extensionFields", given.pop("extension"))
    wrong = sorted(name for name in given if name not in _CHECKS)
    mdn = {name: given[name] if name in given else _DEFAULTS.get(name, lambda: None)() for name in report.PROPERTIES}
    wrong += [name for name, check in _CHECKS.items() if not check(mdn[name])]
    if wrong:
        raise SetError("invalidProperties", "These are missing, unknown, set by the server, or not valid.", wrong)
    return mdn
