"""Small facts of an account under a name, in ``own.sqlite3``."""

from __future__ import annotations

from jmapplug.store.database import Database


def read(own: Database, name: str) -> str | None:
    """What was written last; None where there is nothing."""
    found: str | None = own.value("SELECT value FROM store_meta WHERE key=?", (f"note:{name}",))
    return found


def write(own: Database, name: str, text: str | None) -> None:
    """Write a note; None removes it."""
    if text is None:
        own.write(lambda txn: txn.execute("DELETE FROM store_meta WHERE key=?", (f"note:{name}",)))
    else:
        row = (f"note:{name}", text)
        own.write(lambda txn: txn.execute("INSERT OR REPLACE INTO store_meta VALUES (?, ?)", row))
