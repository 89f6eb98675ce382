"""SearchSnippet/get (RFC 8621 §5): the place in an Email where a search's words stand, marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jmapplug.capabilities.mail import index, tokens
from jmapplug.capabilities.mail.filters import FILTER_FIELDS, leaves
from jmapplug.capabilities.mail.store import search as rows
from jmapplug.errors import UpstreamError
from jmapplug.jmap.checks import is_string
from jmapplug.jmap.errors import MethodError, invalid_arguments
from jmapplug.jmap.filters import Filter, parse_filter
from jmapplug.jmap.methods import Args, Call, Reply

PREVIEW_OCTETS = 255
"""RFC 8621 §5: a preview, with its markup, is never longer."""
BEFORE = 60
"""Characters shown before the first match."""
SUBJECT_FIELDS = frozenset({"text", "subject"})
BODY_FIELDS = frozenset({"text", "body"})

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_OPEN, _CLOSE = "<mark>", "</mark>"

Spans = list[tuple[int, int]]


def get(call: Call, args: Args) -> Reply:
    """``SearchSnippet/get``. Raises MethodError invalidArguments, requestTooLarge, unsupportedFilter."""
    for name in args.keys() - {"accountId", "filter", "emailIds"}:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
    ids = args.get("emailIds")
    if not isinstance(ids, list) or not all(map(is_string, ids)):
        raise invalid_arguments("emailIds must be an array of ids", "emailIds")
    wanted = [call.created_ids.get(id_[1:], id_) if id_.startswith("#") else id_ for id_ in dict.fromkeys(ids)]
    limit = call.limits.max_objects_in_get
    if len(wanted) > limit:
        raise MethodError("requestTooLarge", f"At most {limit} ids in a call", limit=limit)
    tree = parse_filter(args.get("filter"), FILTER_FIELDS)
    shown = rows.shown(call.account.store, wanted)
    found = [shown[id_] for id_ in wanted if id_ in shown]
    missing = [id_ for id_ in wanted if id_ not in shown]
    return {
        "accountId": call.account_id,
        "list": _snippets(call.account, found, tree),
        # RFC 8621 §5.1: null if all were found.
        "notFound": missing or None,
    }


def _snippets(account: Any, found: Sequence[rows.Shown], tree: Filter | None) -> list[dict[str, Any]]:
    in_subject, in_body = terms_of(tree, SUBJECT_FIELDS), terms_of(tree, BODY_FIELDS)
    bodies = _bodies(account, found, in_body)
    return [
        {
            "emailId": email.id,
            "subject": mark(email.subject or "", in_subject),
            "preview": excerpt(bodies.get(email.eid, ""), in_body),
        }
        for email in found
    ]


def terms_of(tree: Filter | None, fields: frozenset[str]) -> tokens.Terms:
    """The terms that a match shows in some fields: those of no condition under a NOT."""
    terms: dict[tokens.Term, None] = {}
    for name, value, negated in leaves(tree):
        if name in fields and not negated:
            terms.update(dict.fromkeys(tokens.parse(value)))
    return tuple(terms)


def _bodies(account: Any, found: Sequence[rows.Shown], terms: tokens.Terms) -> dict[int, str]:
    """The texts of those whose body may match: the stored preview where that shows it, else fetched, batched.

    Where upstream is away there is no text: RFC 8621 §5 lets the preview be null then.
    """
    query = tokens.any_expression(terms, "body")
    if query is None or not found:
        return {}
    matching = rows.matching(account.store, query, [email.eid for email in found])
    bodies: dict[int, str] = {}
    fetch: list[int] = []
    for email in found:
        if email.indexed and email.eid not in matching:
            continue
        if email.preview and spans_of(email.preview, terms):
            bodies[email.eid] = email.preview
        else:
            fetch.append(email.eid)
    try:
        texts = index.fetch_texts(account, rows.pending(account.store, fetch, again=True)).texts if fetch else {}
    except UpstreamError:
        texts = {}
    return bodies | {eid: "\n".join(parts) for eid, parts in texts.items()}


def spans_of(text: str, terms: tokens.Terms) -> Spans:
    """Where ``terms`` stand in ``text``: in order, those that overlap or touch as one."""
    words = tokens.words(text)
    spans = sorted(span for term in terms for span in tokens.occurrences(term, words))
    merged: Spans = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def mark(text: str, terms: tokens.Terms) -> str | None:
    """All of ``text``, escaped, with the matches marked; None if there is none."""
    spans = spans_of(text, terms) if terms else []
    if not spans:
        return None
    return "".join(_escape(text[start:end], marked) for start, end, marked in _pieces(text, spans, 0))


def excerpt(text: str, terms: tokens.Terms) -> str | None:
    """The part of ``text`` around the first match, escaped and marked, in at most 255 octets; None without a match."""
    text = " ".join(text.split())
    spans = spans_of(text, terms) if text and terms else []
    if not spans:
        return None
    begin = _begin(text, spans[0][0])
    left = PREVIEW_OCTETS
    parts: list[str] = []
    for start, end, marked in _pieces(text, spans, begin):
        piece = _escape(text[start:end], marked)
        size = len(piece.encode("utf-8", "replace"))
        if size > left:
            parts.append(_fitting(text[start:end], marked, left))
            break
        parts.append(piece)
        left -= size
    return "".join(parts).strip() or None


def _begin(text: str, first: int) -> int:
    """Where the excerpt begins: a little before the match, at the start of a word."""
    begin = max(0, first - BEFORE)
    if begin == 0:
        return 0
    blank = text.find(" ", begin, first)
    return blank + 1 if blank >= 0 else begin


def _pieces(text: str, spans: Spans, begin: int) -> list[tuple[int, int, bool]]:
    """``text`` from ``begin`` on as (start, end, is a match)."""
    pieces, at = [], begin
    for start, end in spans:
        if start > at:
            pieces.append((at, start, False))
        pieces.append((start, end, True))
        at = end
    pieces.append((at, len(text), False))
    return pieces


def _escape(text: str, marked: bool) -> str:
    escaped = "".join(_ENTITIES.get(char, char) for char in text)
    return f"{_OPEN}{escaped}{_CLOSE}" if marked else escaped


def _fitting(text: str, marked: bool, octets: int) -> str:
    """As much of a piece as ``octets`` hold, never half a character or half an entity."""
    left = octets - (len(_OPEN) + len(_CLOSE) if marked else 0)
    kept: list[str] = []
    for char in text:
        escaped = _ENTITIES.get(char, char)
        left -= len(escaped.encode("utf-8", "replace"))
        if left < 0:
            break
        kept.append(escaped)
    inner = "".join(kept)
    return f"{_OPEN}{inner}{_CLOSE}" if marked and inner else inner
