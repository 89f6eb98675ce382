"""Octets to text: which codec a charset label means, and decoding that never fails.

A label comes from a stranger, so it is looked up in a fixed table: `codecs.lookup` would try to import a module for
every name it does not know, and remember each of them for ever.
"""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases

_NOT_TEXT = frozenset(
    {"base64_codec", "bz2_codec", "hex_codec", "mbcs", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}
)
_UNALIASED = (
    "big5hkscs cp1006 cp437 cp720 cp737 cp775 cp850 cp852 cp856 cp857 cp858 cp860 cp861 cp862 cp863 cp864 cp865 "
    "cp866 cp869 cp874 cp875 cp932 cp949 cp950 cp1026 cp1125 cp1140 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 "
    "cp1256 cp1257 cp1258 euc_jis_2004 euc_jisx0213 euc_jp euc_kr gb18030 gb2312 gbk hp_roman8 hz iso2022_jp "
    "iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr johab koi8_r koi8_t "
    "koi8_u kz1048 mac_arabic mac_cyrillic mac_greek mac_iceland mac_latin2 mac_roman mac_turkish ptcp154 "
    "shift_jis shift_jis_2004 shift_jisx0213 tis_620 utf_8 utf_8_sig utf_7 utf_16 utf_16_be utf_16_le utf_32 "
    "utf_32_be utf_32_le"
)
# What senders mean is the superset: a "gb2312" mail holds characters of gb18030, an "iso-8859-1" one those of cp1252.
_SUPERSETS = {
    "ascii": "ascii",
    "latin_1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
    "cp950": "big5hkscs",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "iso2022_jp": "iso2022_jp_ext",
    "iso2022_jp_1": "iso2022_jp_ext",
    "utf_8": "utf_8_sig",
}
_NAMED = {
    "x_gbk": "gb18030",
    "gb_2312_80": "gb18030",
    "gb_2312": "gb18030",
    "ks_c_5601": "cp949",
    "ks_c_5601_1987": "cp949",
    "ks_c_5601_1989": "cp949",
    "ksc5601": "cp949",
    "x_windows_949": "cp949",
    "cseuckr": "cp949",
    "x_sjis": "cp932",
    "windows_31j": "cp932",
    "ms_kanji": "cp932",
    "x_euc_jp": "euc_jp",
    "x_euc_tw": "big5hkscs",
    "x_x_big5": "big5hkscs",
    "cn_big5": "big5hkscs",
    "csiso2022jp": "iso2022_jp_ext",
    "cp50220": "iso2022_jp_ext",
    "cp50221": "iso2022_jp_ext",
    "hz_gb_2312": "hz",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "x_mac_roman": "mac_roman",
    "x_mac_cyrillic": "mac_cyrillic",
    "unicode_1_1_utf_8": "utf_8_sig",
    "unicode_1_1_utf_7": "utf_7",
    "x_unicode_2_0_utf_7": "utf_7",
    "x_user_defined": "cp1252",
    "windows_874": "cp874",
    "dos_874": "cp874",
    "x_cp1250": "cp1250",
    "x_cp1251": "cp1251",
    "x_cp1252": "cp1252",
    "ansi_x3_110_1983": "cp1252",
}
_SEPARATORS = re.compile(r"[^0-9a-z]+")
_SURROGATES = re.compile("[\ud800-\udfff]")


def _table() -> dict[str, str]:
    table = {alias: name for alias, name in aliases.items() if name not in _NOT_TEXT}
    table |= {name: name for name in table.values()} | {name: name for name in _UNALIASED.split()}
    table = {_key(label): _SUPERSETS.get(name, name) for label, name in table.items()}
    table |= {_key(label): _SUPERSETS.get(name, name) for label, name in _SUPERSETS.items()}
    return table | _NAMED


def _key(label: str) -> str:
    return _SEPARATORS.sub("_", label.lower()).strip("_")


def _through_latin(error: UnicodeError) -> tuple[str, int]:
    """An octet that cp1252 leaves undefined is the control character of latin-1 (as browsers read it)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("jmapplug-latin", _through_latin)
_CODECS = _table()
_SEEN: dict[str, str | None] = {}


def codec(label: str) -> str | None:
    """The Python codec for a charset label, None for a label nobody knows."""
    try:
        return _SEEN[label]
    except KeyError:
        pass
    found = _CODECS.get(_key(label[:64]))
    if len(_SEEN) < 512 and len(label) <= 64:
        _SEEN[label] = found
    return found


def latin(raw: bytes) -> str:
    """cp1252 with latin-1 for what it leaves undefined: every octet string is text in it."""
    return raw.decode("cp1252", "jmapplug-latin")


def guess(raw: bytes) -> tuple[str, bool]:
    """Text in no declared charset: UTF-8, else latin with the flag set."""
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        return latin(raw), True


def decode(raw: bytes, label: str | None, *, final: bool = True) -> tuple[str, bool]:
    """Octets in the charset of this label: (text, whether something was wrong).

    ``final=False`` where more octets follow that are not given: an unfinished character at the end is dropped silently.
    """
    name = codec(label) if label else "ascii"
    if name is None:
        return guess(raw)[0], True
    try:
        return _clean(name, *_strict(raw, name, final))
    except UnicodeError:
        pass
    if name == "ascii":
        text, wrong = guess(raw) if final else guess(_whole_utf8(raw))
        return text, wrong or bool(label)
    if name.startswith("iso2022_jp"):
        text = _japanese(raw)
        return text, "\ufffd" in text or not raw.isascii()
    return _clean(name, raw.decode(name, "replace"), True)


def _strict(raw: bytes, name: str, final: bool) -> tuple[str, bool]:
    if name == "cp1252":
        return latin(raw), False
    if final:
        return raw.decode(name), False
    return codecs.getincrementaldecoder(name)().decode(raw, False), False


def _clean(name: str, text: str, problem: bool) -> tuple[str, bool]:
    # UTF-7 can spell half a surrogate pair, and no JSON may hold one.
    if name == "utf_7" and _SURROGATES.search(text):
        return _SURROGATES.sub("\ufffd", text), True
    return text, problem


def _whole_utf8(raw: bytes) -> bytes:
    """Without a UTF-8 character that is cut off at the end."""
    for back in range(1, min(4, len(raw)) + 1):
        octet = raw[-back]
        if octet >= 0xC0:
            return raw[:-back] if (2 if octet < 0xE0 else 3 if octet < 0xF0 else 4) > back else raw
        if octet < 0x80:
            break
    return raw


_JIS_RUN = re.compile(rb"\x1b(\$[@B]|\([BJI])([^\x1b]*)")
_JIS_HALF_WIDTH, _JIS_DOUBLE = b"(I", (b"$B", b"$@")


def _japanese(raw: bytes) -> str:
    """ISO-2022-JP with the vendors' characters that the standard has no place for (circled digits and their like)."""
    text, at = [], 0
    for run in _JIS_RUN.finditer(raw):
        text.append(guess(raw[at : run.start()])[0])
        kind, octets = run.groups()
        if kind in _JIS_DOUBLE:
            text.append(_shift(octets).decode("cp932", "replace"))
        elif kind == _JIS_HALF_WIDTH:
            text.append(bytes(octet | 0x80 for octet in octets).decode("cp932", "replace"))
        else:
            text.append(guess(octets)[0])
        at = run.end()
    text.append(guess(raw[at:])[0])
    return "".join(text)


def _shift(octets: bytes) -> bytes:
    """JIS X 0208 pairs as Shift_JIS; what is no pair stays."""
    made = bytearray()
    at = 0
    while at + 1 < len(octets):
        first, second = octets[at], octets[at + 1]
        if not (0x21 <= first <= 0x7E and 0x21 <= second <= 0x7E):
            made.append(first)
            at += 1
            continue
        made.append(((first - 0x21) >> 1) + (0x81 if first < 0x5F else 0xC1))
        made.append(second + (0x7E if first % 2 == 0 else 0x20 if second >= 0x60 else 0x1F))
        at += 2
    return bytes(made + octets[at:])
