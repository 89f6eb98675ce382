"""A query's result that is a list in memory (``standard.QueryResult``), for types of which an account has few."""

from __future__ import annotations


class ListedIds:
    """All ids of the result, in their order. ``can_calculate_changes``: whether /queryChanges works for this query."""

    def __init__(self, ids: list[str], query_state: str, can_calculate_changes: bool) -> None:
        self.ids = ids
        self.query_state = query_state
        self.can_calculate_changes = can_calculate_changes

    def total(self) -> int:
        return len(self.ids)

    def window(self, position: int, limit: int | None) -> list[str]:
        return self.ids[position:] if limit is None else self.ids[position : position + limit]

    def index_of(self, id: str) -> int | None:
        return self.ids.index(id) if id in self.ids else None
