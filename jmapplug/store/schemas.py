"""The tables that capabilities declare (``hookspecs.Schema``), made and migrated in an account's two files."""

from __future__ import annotations

from collections.abc import Sequence

from jmapplug.hookspecs import Schema
from jmapplug.store.database import Database, Txn


def apply(database: Database, schemas: Sequence[Schema], half: str) -> None:
    """Each schema's scripts in their order, numbered per schema by its first line's place in the list of names."""
    done: dict[str, int] = dict(database.rows("SELECT name, version FROM store_schema"))
    for schema in schemas:
        scripts = schema.own if half == "own" else schema.cache
        if not scripts:
            continue
        name = _schema_name(scripts)
        version = done.get(name, 0)
        if version > len(scripts):
            raise ValueError(f"{database.path.name} was made by a newer version (schema {version} > {len(scripts)})")
        for number in range(version, len(scripts)):

            def step(txn: Txn, script: str = scripts[number], name: str = name, number: int = number) -> None:
                txn.execute(script)
                txn.execute("INSERT OR REPLACE INTO store_schema VALUES (?, ?)", (name, number + 1))

            database.write(step)


def _schema_name(scripts: Sequence[str]) -> str:
    """A capability's schema is known by the first table that its first script makes."""
    head = scripts[0].split("CREATE TABLE", 1)
    return head[1].split("(", 1)[0].strip() if len(head) == 2 else "?"
