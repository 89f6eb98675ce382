"""Dates of header fields: RFC 5322 §3.3 with its obsolete forms, and the junk that mailers write instead."""

from __future__ import annotations

import re
from datetime import date

from jmapplug.mime.words import text_of, uncomment

_USUAL = re.compile(
    r"\s*(?:[A-Za-z]{2,9}\.?\s*,?\s*)?(\d{1,2})[\s-]+([A-Za-z]{3,9})\.?,?[\s-]+(\d{2,4}),?\s+"
    r"(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2})(?:[.,]\d+)?)?(?:\s*([AaPp])[Mm]\b)?\s*([+-]\s?\d{1,2}:?\d{2}|[A-Za-z]{1,5})?",
    re.ASCII,
)
_ISO = re.compile(
    r"\s*(?:[A-Za-z]{3,9},?\s+)?(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[Tt]|\s+)"
    r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s*([+-]\d{2}:?\d{2}|[A-Za-z]{1,5})?",
    re.ASCII,
)
_ASCTIME = re.compile(
    r"\s*(?:[A-Za-z]{3,9},?\s+)?([A-Za-z]{3,9})\.?\s+(\d{1,2}),?\s+(?:(\d{4}),?\s+)?"
    r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\s*([AaPp])[Mm]\b)?(?:\s+([+-]\d{4}|[A-Za-z]{1,5}))?(?:\s+(\d{4}))?",
    re.ASCII,
)
_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: at for at, name in enumerate(_NAMES, 1)}
# RFC 5322 §4.3, and the names that its authors left out. Others, and the military letters, mean an unknown offset.
_ZONES = {
    "EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420,
    "AST": -240, "ADT": -180, "AKST": -540, "AKDT": -480, "HST": -600,
    "WET": 0, "WEST": 60, "BST": 60, "MET": 60, "MEZ": 60, "CET": 60, "MEST": 120, "MESZ": 120, "CEST": 120,
    "EET": 120, "EEST": 180, "SAST": 120, "MSK": 180, "MSD": 240, "JST": 540, "KST": 540, "HKT": 480, "SGT": 480,
    "AEST": 600, "AEDT": 660, "NZST": 720, "NZDT": 780,
}  # fmt: skip
_EPOCH = date(1970, 1, 1).toordinal()

# year, month, day, hour, minute, second, minutes east of Greenwich
_Moment = tuple[int, int, int, int, int, int, int]


def as_date(value: bytes) -> str | None:
    """RFC 3339 with the sender's own offset ("2013-10-13T14:12:00+02:00", "Z" for none or an unknown one), or None."""
    moment = _read(text_of(value[:500]))
    return _written(moment) if moment else None


def timestamp(value: bytes | str) -> int | None:
    """Seconds since 1970 of a Date field's value or of an RFC 3339 string, or None."""
    moment = _read(value[:500] if isinstance(value, str) else text_of(value[:500]))
    if not moment:
        return None
    year, month, day, hour, minute, second, offset = moment
    days = date(year, month, day).toordinal() - _EPOCH
    return days * 86_400 + hour * 3_600 + minute * 60 + second - offset * 60


def _written(moment: _Moment) -> str:
    year, month, day, hour, minute, second, offset = moment
    text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    if not offset:
        return text + "Z"
    sign, east = ("-", -offset) if offset < 0 else ("+", offset)
    return f"{text}{sign}{east // 60:02}:{east % 60:02}"


def _read(text: str) -> _Moment | None:
    if "(" in text:
        text = uncomment(text)
    if found := _USUAL.match(text):
        day, month, year, hour, minute, second, half, zone = found.groups()
        return _moment(year, _MONTHS.get(month[:3].lower(), 0), day, (hour, minute, second, half, zone))
    if found := _ISO.match(text):
        year, number, day, hour, minute, second, zone = found.groups()
        return _moment(year, int(number), day, (hour, minute, second, None, zone))
    if found := _ASCTIME.match(text):
        month, day, early, hour, minute, second, half, zone, late = found.groups()
        return _moment(early or late, _MONTHS.get(month[:3].lower(), 0), day, (hour, minute, second, half, zone))
    return None


def _moment(written_year: str | None, month: int, written_day: str, time: tuple[str | None, ...]) -> _Moment | None:
    """``time`` is hour, minute, second, the first letter of AM or PM, zone."""
    if not written_year:
        return None
    year, day = int(written_year), int(written_day)
    if len(written_year) < 4:
        # RFC 5322 §4.3: two digits up to 49 are of this century, three are counted from 1900.
        year += 2000 if len(written_year) == 2 and year < 50 else 1900
    hour, minute, second = (int(number or 0) for number in time[:3])
    if time[3] and 1 <= hour <= 12:
        hour = hour % 12 + (12 if time[3] in "pP" else 0)
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= _length(year, month) and hour < 24 and minute < 60):
        return None
    # A leap second is a valid time that nobody can store.
    return (year, month, day, hour, minute, min(second, 59), _offset(time[4])) if second <= 60 else None


def _length(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _offset(zone: str | None) -> int:
    if not zone:
        return 0
    if zone[0] not in "+-":
        return _ZONES.get(zone.upper(), 0)
    digits = zone[1:].replace(":", "").strip()
    hours, minutes = int(digits[:-2]), int(digits[-2:])
    if hours > 23 or minutes > 59:
        return 0
    return -(hours * 60 + minutes) if zone[0] == "-" else hours * 60 + minutes
