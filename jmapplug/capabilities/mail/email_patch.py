"""What an Email/set update asks for: keywords and mailboxIds, by value or patch (RFC 8620 §5.3, RFC 8621 §4.6). Pure.

Everything else of an Email never changes: a client may repeat its value, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jmapplug.capabilities.mail.keywords import is_keyword
from jmapplug.jmap import patch
from jmapplug.jmap.errors import SetError

Resolve = Callable[[str], str]
"""A Mailbox id, or "#" and a creation id → the id."""
_KEYWORDS, _MAILBOXES = "keywords", "mailboxIds"


class Changes(NamedTuple):
    """``keywords`` and ``mailbox_ids``: as they are to be, None where nothing is said of them.

    ``repeated``: other properties, which must have these values already.
    """

    keywords: frozenset[str] | None
    mailbox_ids: frozenset[str] | None
    repeated: dict[str, Any]


def read(given: Mapping[str, Any], keywords: frozenset[str], mailbox_ids: frozenset[str], resolve: Resolve) -> Changes:
    """What the PatchObject makes of an Email with these keywords in these Mailboxes.

    Raises SetError invalidPatch, invalidProperties.
    """
    wanted_keywords: set[str] | None = None
    wanted_ids: set[str] | None = None
    repeated: dict[str, Any] = {}
    for path, value in patch.paths(given).items():
        if path[0] == _KEYWORDS:
            wanted_keywords = set(keywords) if wanted_keywords is None else wanted_keywords
            wanted_keywords = _member(path, value, wanted_keywords, lambda whole: keyword_set(whole), keyword)
        elif path[0] == _MAILBOXES:
            wanted_ids = set(mailbox_ids) if wanted_ids is None else wanted_ids
            wanted_ids = _member(path, value, wanted_ids, lambda whole: mailbox_set(whole, resolve), resolve)
        elif len(path) == 1:
            repeated[path[0]] = value
        else:
            raise SetError("invalidProperties", "This property never changes", [path[0][:200]])
    return Changes(
        None if wanted_keywords is None else frozenset(wanted_keywords),
        None if wanted_ids is None else frozenset(wanted_ids),
        repeated,
    )


def _member(
    path: patch.Path, value: Any, now: set[str], whole: Callable[[Any], frozenset[str]], name: Callable[[str], str]
) -> set[str]:
    """``now`` with one pointer applied; the property itself, or one member of it."""
    if len(path) == 1:
        return set(whole(value))
    if len(path) > 2:
        raise SetError("invalidPatch", "The pointer leads into a boolean", [path[0]])
    member = name(path[1])
    if value is True:
        return now | {member}
    # Real clients send false for null (Bulwark marks unread so); it can mean nothing else.
    if value is None or value is False:
        return now - {member}
    raise SetError("invalidProperties", "A member must be true or null", ["/".join(path)[:200]])


def keyword(text: str) -> str:
    """A keyword as we keep it. Raises SetError invalidProperties for what RFC 8621 §4.1.1 does not allow."""
    lower = text.lower()
    if not is_keyword(lower) or lower == "$recent":
        raise SetError("invalidProperties", "This is no keyword (RFC 8621 §4.1.1)", [f"keywords/{text[:200]}"])
    return lower


def keyword_set(value: Any) -> frozenset[str]:
    """The ``keywords`` of a whole value; null is the default: none. Raises SetError invalidProperties."""
    if value is None:
        return frozenset()
    if not isinstance(value, dict) or not all(flag is True or flag is False for flag in value.values()):
        raise SetError("invalidProperties", "keywords must be an object whose members are true", [_KEYWORDS])
    return frozenset(keyword(name) for name, flag in value.items() if flag)


def mailbox_set(value: Any, resolve: Resolve) -> frozenset[str]:
    """The ``mailboxIds`` of a whole value. Raises SetError invalidProperties."""
    if not isinstance(value, dict) or not all(flag is True for flag in value.values()):
        raise SetError("invalidProperties", "mailboxIds must be an object whose members are true", [_MAILBOXES])
    return frozenset(resolve(id_) for id_ in value)
