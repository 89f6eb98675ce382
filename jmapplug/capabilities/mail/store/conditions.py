"""Single conditions of Email/query as SQL over the driver's row (``store.statements``) and the Email's row ``e``."""

# ruff: noqa: S608 - the texts come from this module, every value is bound.

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jmapplug.capabilities.mail import tokens
from jmapplug.capabilities.mail.filters import TEXT_FIELDS
from jmapplug.jmap.filters import Condition, Filter
from jmapplug.store.database import Database

FLAG_BITS = {"$seen": 1, "$draft": 2, "$flagged": 4, "$answered": 8}
HAS_ATTACHMENT = 16
NO_MAILBOX = -1

Hits = Mapping[tuple[str, ...], Collection[int]]
"""Search condition → eids that match it besides what the index says: ("from", "bob"), ("header", "List-Id", "x")."""


@dataclass(slots=True)
class Compiler:
    """Builds the parts of one statement; ``joined`` becomes True when the Email's own row is needed."""

    database: Database
    hits: Hits
    alias: str = "x"
    joined: bool = False
    params: list[Any] = field(default_factory=list)

    def bind(self, *values: Any) -> str:
        self.params.extend(values)
        return ", ".join("?" * len(values))

    def never(self) -> str:
        """What is never true. SQLite folds a constant away, and with it the use of an index that it must use."""
        return self.bind(0)

    def column(self, name: str) -> str:
        self.joined = True
        return f"e.{name}"

    def tree(self, node: Filter) -> str:
        if isinstance(node, Condition):
            return joined_by(" AND ", [self.condition(name, value) for name, value in node.values.items()])
        parts = [self.tree(child) for child in node.conditions]
        # RFC 8620 §5.5: NOT is true when none of its conditions matches.
        if node.operator == "NOT":
            return f"NOT {joined_by(' OR ', parts)}" if parts else "1"
        if not parts and node.operator == "OR":
            return self.never()
        return joined_by(f" {node.operator} ", parts)

    def condition(self, name: str, value: Any) -> str:
        if name in TEXT_FIELDS:
            return self.text(name, value)
        return CONDITIONS[name](self, value)

    # --- single conditions -----------------------------------------------------------------------------------------

    def in_mailbox(self, value: str) -> str:
        mid = mailbox_mid(self.database, value)
        return (
            f"EXISTS (SELECT 1 FROM email_mailbox m WHERE m.mid = {self.bind(mid)}"
            f" AND m.received_at = {self.alias}.received_at AND m.id = {self.alias}.id)"
        )

    def in_mailbox_other_than(self, value: list[str]) -> str:
        inside = f"SELECT 1 FROM email_mailbox m WHERE m.eid = {self.alias}.eid"
        names = self.bind(json.dumps(value))
        unwanted = f"SELECT b.mid FROM mailbox b WHERE b.id IN (SELECT value FROM json_each({names}))"
        return f"EXISTS ({inside} AND m.mid NOT IN ({unwanted}))"

    def before(self, value: str) -> str:
        return f"{self.alias}.received_at < {self.bind(_seconds(value))}"

    def after(self, value: str) -> str:
        return f"{self.alias}.received_at >= {self.bind(_seconds(value))}"

    def min_size(self, value: int) -> str:
        return f"{self.column('size')} >= {self.bind(value)}"

    def max_size(self, value: int) -> str:
        return f"{self.column('size')} < {self.bind(value)}"

    def has_attachment(self, value: bool) -> str:
        return f"({self.column('flags')} & {HAS_ATTACHMENT} {'!=' if value else '='} 0)"

    def has_keyword(self, value: str) -> str:
        return self.keyword(self.alias, value)

    def not_keyword(self, value: str) -> str:
        return f"NOT {self.keyword(self.alias, value)}"

    def keyword(self, alias: str, value: str) -> str:
        """Whether the Email at ``alias`` has a keyword. Of $seen the absence is what is kept."""
        name = value.lower()
        unseen = name == "$seen"
        stored = self.bind("!$seen" if unseen else name)
        found = (
            f"EXISTS (SELECT 1 FROM email_keyword k WHERE k.keyword = {stored}"
            f" AND k.received_at = {alias}.received_at AND k.id = {alias}.id)"
        )
        return f"NOT {found}" if unseen else found

    def some_in_thread(self, value: str) -> str:
        name, tid = value.lower(), self.column("tid")
        if name in FLAG_BITS:
            return self._mates(tid, f"t.flags & {FLAG_BITS[name]} != 0")
        return f"{tid} IN ({self._threads_with(name)})"

    def all_in_thread(self, value: str) -> str:
        name, tid = value.lower(), self.column("tid")
        if name == "$seen":
            return f"{tid} NOT IN ({self._threads_with('!$seen')})"
        if name in FLAG_BITS:
            return f"NOT {self._mates(tid, f't.flags & {FLAG_BITS[name]} = 0')}"
        without = f"NOT EXISTS (SELECT 1 FROM email_keyword k WHERE k.keyword = {self.bind(name)}"
        return f"NOT {self._mates(tid, f'{without} AND k.received_at = t.received_at AND k.id = t.id)')}"

    def none_in_thread(self, value: str) -> str:
        return f"NOT {self.some_in_thread(value)}"

    def _mates(self, tid: str, condition: str) -> str:
        return f"EXISTS (SELECT 1 FROM email t WHERE t.tid = {tid} AND t.deleted = 0 AND {condition})"

    def _threads_with(self, keyword: str) -> str:
        named = self.bind(keyword)
        return f"SELECT t.tid FROM email_keyword k CROSS JOIN email t ON t.eid = k.eid WHERE k.keyword = {named}"

    def text(self, name: str, value: str) -> str:
        terms = tokens.parse(value)
        if not terms:
            return "1"
        query = tokens.expression(terms, TEXT_FIELDS[name])
        if query is None:
            return self.symbols(name, terms)
        found = f"{self.alias}.eid IN (SELECT f.rowid FROM fts f WHERE f.fts MATCH {self.bind(query)})"
        return self.found_besides(found, (name, value))

    def symbols(self, name: str, terms: tokens.Terms) -> str:
        """Text without any word (an emoji): looked for as it is, in what the row keeps of the header."""
        parts = []
        for term in terms:
            places = [
                f"instr(coalesce({self.column(column)}, ''), {self.bind(term.text)})"
                for column in _SYMBOL_COLUMNS[name]
            ]
            parts.append(joined_by(" OR ", places))
        return joined_by(" AND ", parts)

    def header(self, value: list[str]) -> str:
        column = HEADER_COLUMNS.get(value[0].lower())
        if column is None:
            return self.found_besides(self.never(), ("header", *value))
        if len(value) == 1:
            return f"{self.column(column)} IS NOT NULL"
        parts = []
        for term in tokens.parse(value[1]):
            needle = json.dumps(term.text.strip("<>"), ensure_ascii=False)[1:-1] if column != "subject" else term.text
            parts.append(f"instr(lower(coalesce({self.column(column)}, '')), lower({self.bind(needle)}))")
        return joined_by(" AND ", parts)

    def found_besides(self, found: str, key: tuple[str, ...]) -> str:
        eids = self.hits.get(key)
        if not eids:
            return found
        listed = self.bind(json.dumps(list(eids)))
        return f"({found} OR {self.alias}.eid IN (SELECT value FROM json_each({listed})))"


CONDITIONS: Mapping[str, Callable[[Compiler, Any], str]] = {
    "inMailbox": Compiler.in_mailbox,
    "inMailboxOtherThan": Compiler.in_mailbox_other_than,
    "before": Compiler.before,
    "after": Compiler.after,
    "minSize": Compiler.min_size,
    "maxSize": Compiler.max_size,
    "hasAttachment": Compiler.has_attachment,
    "hasKeyword": Compiler.has_keyword,
    "notKeyword": Compiler.not_keyword,
    "someInThreadHaveKeyword": Compiler.some_in_thread,
    "allInThreadHaveKeyword": Compiler.all_in_thread,
    "noneInThreadHaveKeyword": Compiler.none_in_thread,
    "header": Compiler.header,
}

HEADER_COLUMNS = {
    "subject": "subject",
    "from": "j_from",
    "to": "j_to",
    "cc": "j_cc",
    "bcc": "j_bcc",
    "sender": "j_sender",
    "reply-to": "j_reply_to",
    "message-id": "j_message_id",
    "in-reply-to": "j_in_reply_to",
    "references": "j_references",
}
"""Header fields that every row keeps: conditions on them need no upstream."""

_SYMBOL_COLUMNS = {
    "subject": ("subject",),
    "from": ("j_from",),
    "to": ("j_to",),
    "cc": ("j_cc",),
    "bcc": ("j_bcc",),
    "text": ("subject", "j_from", "j_to", "j_cc", "j_bcc", "preview"),
    "body": ("preview",),
}


def mailbox_mid(database: Database, mailbox_id: str) -> int:
    """The number of a Mailbox; NO_MAILBOX, which holds nothing, for an id that is none."""
    mid = database.value("SELECT mid FROM mailbox WHERE id = ? AND deleted = 0", (mailbox_id,))
    return NO_MAILBOX if mid is None else int(mid)


def joined_by(operator: str, parts: list[str]) -> str:
    """The parts in brackets; for none of them, what is always true."""
    if not parts:
        return "1"
    return parts[0] if len(parts) == 1 else f"({operator.join(parts)})"


def _seconds(value: str) -> float | int:
    """A UTCDate as unix seconds. RFC 3339 §5.6: a leap second is counted as the one after it."""
    leap = value[17:19] == "60"
    text = f"{value[:17]}59{value[19:]}" if leap else value
    whole, _, fraction = text[:-1].partition(".")
    seconds = datetime.fromisoformat(f"{whole}+00:00").timestamp() + leap
    return float(f"{math.floor(seconds)}.{fraction}") if fraction else int(seconds)
