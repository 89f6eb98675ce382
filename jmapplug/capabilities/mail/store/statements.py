"""A filter and a sort of Email/query become one parametrised statement.

A statement walks a *driver*: the smallest table that holds all possible matches in order of (received_at, id), which
are columns of every driver: the Emails of one Mailbox, those with one keyword, or all of them. ``x`` is the driver's
row; ``e``, joined only where something needs it, the Email's. So a page sorted by receivedAt reads as many rows as it
shows, at any size of the account. Values are always bound, never part of the text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from jmapplug.capabilities.mail import tokens
from jmapplug.capabilities.mail.filters import TEXT_FIELDS, required
from jmapplug.capabilities.mail.store.conditions import CONDITIONS, NO_MAILBOX, Compiler, Hits, joined_by
from jmapplug.jmap.filters import Condition, Filter, Operator
from jmapplug.jmap.sorting import Comparator, Sort
from jmapplug.store.database import Database

PROBE = 2_000
"""A keyword with fewer Emails than this drives rather than a Mailbox with more."""
VISIBLE = "e.deleted = 0"
"""mail-rules 14: settling writes an Email's row and its places in one transaction; one that is nowhere is destroyed."""
JOIN_EMAIL = " CROSS JOIN email e ON e.eid = x.eid"

# Names in statements: driver → (FROM, the alias that has received_at, id and eid, whether that is the Email's row)
_DRIVERS = {
    "mailbox": ("email_mailbox x", "x", False),
    "keyword": ("email_keyword x", "x", False),
    "received": ("email e INDEXED BY email_received", "e", True),
    "email": ("email e", "e", True),
}

_NO_HITS: Hits = {}


@dataclass(slots=True)
class Statement:
    """A compiled query. ``newest_first``: True or False for a plain sort by receivedAt, None for any other.

    ``plain``: nothing but ``mailbox`` (None: everything) is asked for. ``words``: nothing but this FTS5 query.
    """

    source: str
    alias: str
    where: str
    params: list[Any]
    order: str
    order_params: list[Any]
    newest_first: bool | None
    thread: str
    mailbox: int | None = None
    plain: bool = False
    words: str | None = None

    @property
    def key(self) -> bytes:
        """Equal for equal lists, as long as no Email changes."""
        told = (self.source, self.where, self.params, self.order, self.order_params)
        return hashlib.sha256(repr(told).encode("utf-8", "surrogatepass")).digest()


# --- sorting ---------------------------------------------------------------------------------------------------------


def _received(compiler: Compiler, key: Comparator) -> str:
    return f"{compiler.alias}.received_at"


def _column(name: str) -> Callable[[Compiler, Comparator], str]:
    return lambda compiler, key: compiler.column(name)


def _address(folded: str, raw: str) -> Callable[[Compiler, Comparator], str]:
    """RFC 8621 §4.4.2: the first address's name, or if there is none its email, or the empty string."""

    def expression(compiler: Compiler, key: Comparator) -> str:
        if key.collation in (None, "i;unicode-casemap"):
            return f"coalesce({compiler.column(folded)}, '')"
        column = compiler.column(raw)
        name, email = f"json_extract({column}, '$[0].name')", f"json_extract({column}, '$[0].email')"
        text = f"coalesce(nullif({name}, ''), {email}, '')"
        return text if key.collation == "i;octet" else f"upper({text})"

    return expression


def _keyword(kind: str) -> Callable[[Compiler, Comparator], str]:
    return lambda compiler, key: f"({CONDITIONS[kind](compiler, key.extra['keyword'])})"


_SORTS: Mapping[str, Callable[[Compiler, Comparator], str]] = {
    "receivedAt": _received,
    "size": _column("size"),
    "sentAt": _column("sent"),
    "from": _address("sort_from", "j_from"),
    "to": _address("sort_to", "j_to"),
    # The base subject is kept as its i;unicode-casemap key only; for ASCII the other collations agree with it but for
    # the case of letters.
    "subject": lambda compiler, key: f"coalesce({compiler.column('sort_subject')}, '')",
    "hasKeyword": _keyword("hasKeyword"),
    "someInThreadHaveKeyword": _keyword("someInThreadHaveKeyword"),
    "allInThreadHaveKeyword": _keyword("allInThreadHaveKeyword"),
}


def _order(compiler: Compiler, sort: Sort) -> str:
    """ORDER BY; ties break by id (mail-rules 7), in the direction of a receivedAt that comes last."""
    keys = [f"{_SORTS[key.property](compiler, key)} {'ASC' if key.is_ascending else 'DESC'}" for key in sort]
    down = sort[-1].property == "receivedAt" and not sort[-1].is_ascending
    return ", ".join((*keys, f"{compiler.alias}.id {'DESC' if down else 'ASC'}"))


# --- statements ------------------------------------------------------------------------------------------------------


def compile_query(database: Database, tree: Filter | None, sort: Sort, hits: Hits = _NO_HITS) -> Statement:
    """The statement for a filter and a sort. ``hits``: what a search has found outside the index."""
    by_received = len(sort) == 1 and sort[0].property == "receivedAt"
    driver = _driver(database, tree, by_received)
    source, alias, is_email = _DRIVERS[driver.table]
    compiler = Compiler(database, hits, alias, joined=is_email)
    where = _scope(compiler, driver)
    rest = _without(tree, *driver.condition)
    if rest is not None:
        where.append(compiler.tree(rest))
    params, compiler.params = compiler.params, []
    order = _order(compiler, sort)
    if compiler.joined and not is_email:
        source += JOIN_EMAIL
    return Statement(
        source=source,
        alias=alias,
        where=joined_by(" AND ", where),
        params=params,
        order=order,
        order_params=compiler.params,
        newest_first=not sort[0].is_ascending if by_received else None,
        thread="x.tid" if driver.table == "mailbox" else "e.tid",
        mailbox=driver.mid if driver.table == "mailbox" else None,
        plain=rest is None and driver.table != "keyword",
        words=_only_words(tree, hits),
    )


def _only_words(tree: Filter | None, hits: Hits) -> str | None:
    """The FTS5 query that is all there is to the filter: the index, which holds no Email that is gone, counts best."""
    if not isinstance(tree, Condition) or len(tree.values) != 1:
        return None
    ((name, value),) = tree.values.items()
    if name not in TEXT_FIELDS or hits.get((name, value)):
        return None
    return tokens.expression(tokens.parse(value), TEXT_FIELDS[name])


def _scope(compiler: Compiler, driver: Driver) -> list[str]:
    if driver.table == "mailbox":
        return [f"x.mid = {compiler.bind(driver.mid)}"]
    if driver.table == "keyword":
        return [f"x.keyword = {compiler.bind(driver.keyword)}"]
    return [VISIBLE]


class Driver(NamedTuple):
    """Which table to walk, and the condition that this fulfils."""

    table: str
    condition: tuple[str, str] = ("", "")
    mid: int = NO_MAILBOX
    keyword: str = ""


def _driver(database: Database, tree: Filter | None, by_received: bool) -> Driver:
    mailbox, found = None, None
    for name, value in required(tree):
        if name == "inMailbox" and mailbox is None:
            mailbox = value
        elif found is None and (keyword := _driving_keyword(name, value)):
            found = Driver("keyword", (name, value), keyword=keyword)
    if mailbox is None:
        return found or Driver("received" if by_received else "email")
    row = database.row("SELECT mid, total_emails FROM mailbox WHERE id = ? AND deleted = 0", (mailbox,))
    mid, total = row if row is not None else (NO_MAILBOX, 0)
    if found is not None and total > PROBE and _count_keyword(database, found.keyword) < PROBE:
        return found
    return Driver("mailbox", ("inMailbox", mailbox), mid)


def _driving_keyword(name: str, value: Any) -> str:
    if name == "hasKeyword" and value.lower() != "$seen":
        return str(value.lower())
    return "!$seen" if name == "notKeyword" and value.lower() == "$seen" else ""


def _count_keyword(database: Database, keyword: str) -> int:
    sql = "SELECT count(*) FROM (SELECT 1 FROM email_keyword WHERE keyword = ? LIMIT ?)"
    return int(database.value(sql, (keyword, PROBE)))


def _without(tree: Filter | None, name: str, value: str) -> Filter | None:
    """The filter without a required condition that the driver fulfils already; None where nothing is left."""
    if tree is None:
        return None
    if isinstance(tree, Condition):
        rest = {key: wanted for key, wanted in tree.values.items() if key != name or wanted != value}
        return Condition(rest) if rest else None
    if tree.operator != "AND":
        return tree
    left = tuple(child for child in (_without(child, name, value) for child in tree.conditions) if child is not None)
    return Operator("AND", left) if left else None
