"""Email/get (RFC 8621 §4.2).

A list page costs one SELECT: its properties are columns that hold JSON (``properties.plan_for``). What is missing is
filled in first (``previews.fill``); header and body properties open the message (``structures``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import gevent.pool
import msgspec

from jmapplug.capabilities.mail import bodies, fetch, previews, structures
from jmapplug.capabilities.mail.headers import Fields, header_list
from jmapplug.capabilities.mail.properties import DEFAULT, FIXED, Plan, known, plan_for
from jmapplug.capabilities.mail.store import emails
from jmapplug.capabilities.mail.store.emails import Content
from jmapplug.jmap import standard
from jmapplug.jmap.methods import Args, Call
from jmapplug.jmap.standard import get
from jmapplug.mime.headers import split

T = TypeVar("T")
Record = dict[str, Any]

_AT_ONCE = 4
"""Messages of one call that are opened at the same time."""


class EmailGet(standard.StoredType):
    """``GetSource`` of Emails."""

    name = "Email"
    properties = FIXED
    default_properties = DEFAULT
    extra_args = bodies.EXTRA_ARGS

    def check_property(self, name: str) -> bool:
        return known(name)

    def all_ids(self, account: Any, limit: int) -> list[str]:
        return emails.visible_ids(account.store, limit + 1)

    def load(self, call: Call, ids: list[str], properties: tuple[str, ...], args: Args) -> list[Record]:
        plan = plan_for(properties)
        found = rows(call.account, plan, ids)
        if not plan.row_only:
            found = _with_content(call.account, plan, found, bodies.request(plan.body, args))
        return [found[id_] for id_ in ids if id_ in found]


def rows(account: Any, plan: Plan, ids: list[str]) -> dict[str, Record]:
    """The properties that are columns, of the visible ones among ``ids``."""
    found, unfinished = _select(account, plan, ids)
    if unfinished:
        previews.fill(account, unfinished, previews=plan.preview)
        again, unfinished = _select(account, plan, unfinished)
        found.update(again)
        for id_ in unfinished:
            # mail-rules 14: no placeholder is ever answered; see the module ``previews``.
            for name in ("preview",) if plan.preview and found[id_]["preview"] is None else ():
                del found[id_][name]
    return found


def _select(account: Any, plan: Plan, ids: list[str]) -> tuple[dict[str, Record], list[str]]:
    """(id → record, ids of rows that lack something that was asked for)."""
    names, raw, make = plan.names, plan.raw, msgspec.Raw
    found: dict[str, Record] = {}
    unfinished: list[str] = []
    for row in emails.rows(account.store, plan.columns, ids):
        # One value more than names: whether the row is complete.
        record = dict(zip(names, row, strict=False))
        for name in raw:
            record[name] = make(record[name])
        found[row[0]] = record
        if row[-1]:
            unfinished.append(row[0])
    return found, unfinished


def _with_content(account: Any, plan: Plan, found: dict[str, Record], wish: bodies.BodyRequest) -> dict[str, Record]:
    """The records with what their messages say; one whose message is gone upstream is left out."""
    contents = emails.contents(account.store, list(found))
    if plan.needs_header:
        fetch.warm_headers(account, {id_: content.eid for id_, content in contents.items()})
    jobs = [partial(_content, account, plan, content, wish) for content in contents.values()]
    parts = {id_: made for id_, made in zip(contents, _together(jobs), strict=True) if made is not None}
    return {id_: record | parts[id_] for id_, record in found.items() if id_ in parts}


def _content(account: Any, plan: Plan, content: Content, wish: bodies.BodyRequest) -> Record | None:
    try:
        if not wish.wanted:
            return header_properties(plan, _header_fields(account, content))
        return structures.reading(account, content, partial(_rendered, plan, wish))
    except fetch.Gone:
        return None


def _rendered(plan: Plan, wish: bodies.BodyRequest, message: structures.Message) -> Record:
    made = bodies.render(message, wish)
    return made | header_properties(plan, message.fields()) if plan.needs_header else made


def _header_fields(account: Any, content: Content) -> Fields:
    return split(fetch.header_block(account, content.eid, content.id))


def header_properties(plan: Plan, fields: Fields) -> Record:
    """``headers`` and ``header:*`` of a message with these fields."""
    made = {name: header.value(fields) for name, header in plan.headers}
    if plan.all_headers:
        made["headers"] = header_list(fields)
    return made


def _together(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Run all; a few at a time. The first exception is raised when all are done."""
    if len(jobs) == 1:
        return [jobs[0]()]
    results = gevent.pool.Pool(_AT_ONCE).map(_caught, jobs)
    for _, error in results:
        if error is not None:
            raise error
    return [value for value, _ in results]


def _caught(job: Callable[[], T]) -> tuple[T, None] | tuple[None, Exception]:
    try:
        return job(), None
    except Exception as error:
        return None, error


EMAIL_GET = EmailGet()
email_get = partial(get, source=EMAIL_GET)
