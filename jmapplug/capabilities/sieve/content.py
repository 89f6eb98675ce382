"""The content of a script that a client sends as a blob (RFC 9661 §2.2), and what the server says of it."""

from __future__ import annotations

from typing import Any

from jmapplug.capabilities.sieve.scripts import MAX_SCRIPT
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import SetError


def read_content(account: Any, ident: Any) -> bytes:
    """The octets of a blob of any kind. Raises SetError invalidProperties, tooLarge, invalidSieve."""
    ref = account.blob(ident) if isinstance(ident, str) else None
    if ref is None:
        raise SetError("invalidProperties", "There is no such blob", ["blobId"])
    if ref.size > MAX_SCRIPT:
        raise SetError("tooLarge", f"A script has at most {MAX_SCRIPT} octets")
    content: bytes = ref.path.read_bytes()
    # RFC 9661 §2.2: UTF-8 of at least one character; RFC 5228 §2.1: NUL is not allowed.
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SetError("invalidSieve", f"line {line}: the script is not UTF-8") from error
    if not text or "\0" in text:
        raise SetError("invalidSieve", "The script is empty" if not text else "The script holds a NUL")
    return content


def refusal(error: UpstreamError) -> SetError | None:
    """The SetError for what the server refused (RFC 5804 §1.3); None where it broke off or is away."""
    row = _REFUSALS.get(error.code or "")
    if row is None:
        return None
    type_, text, properties = row
    # A compiler's message is what the user needs to mend the script.
    return SetError(type_, str(error) if type_ == "invalidSieve" else text, properties)


_REFUSALS: dict[str, tuple[str, str, list[str] | None]] = {
    "invalid": ("invalidSieve", "", None),
    "quota/maxsize": ("tooLarge", "The mail server takes no script of this size", None),
    "quota/maxscripts": ("overQuota", "The mail server takes no more scripts", None),
    "quota": ("overQuota", "There is no space for this script on the mail server", None),
    "alreadyexists": ("alreadyExists", "There is a script of that name", None),
    "nonexistent": ("notFound", "The script is gone", None),
    "active": ("sieveIsActive", "The script is active", None),
    "cannot": ("invalidProperties", "The mail server does not take this name", ["name"]),
}
