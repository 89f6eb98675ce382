"""SQL of PushSubscriptions (own.sqlite3)."""

from __future__ import annotations

import msgspec

from jmapplug.store.account import Store
from jmapplug.store.database import Txn

States = dict[str, dict[str, str]]
"""accountId → {type: state}."""


class Subscription(msgspec.Struct, frozen=True):
    """One row; see own_1.sql and own_2.sql."""

    id: str
    device_client_id: str
    url: str
    p256dh: str | None
    auth: str | None
    code: str
    expires: int
    types: tuple[str, ...] | None
    told: States
    vapid: str
    credential: str
    credential_ends: int | None = None
    code_sent: int = 0
    verified: int = 0
    due_at: float = 0.0
    gap: float = 0.0
    failures: int = 0
    refusals: int = 0

    def __repr__(self) -> str:
        """Without the URL, the keys and the code: they are secrets, and this may be logged."""
        return f"Subscription({self.id})"

    def wants(self, type_: str) -> bool:
        return self.types is None or type_ in self.types

    def news(self, states: States) -> States:
        """Of the states as they are, those that the client wants and has not been told."""
        news: States = {}
        for account_id, each in states.items():
            told = self.told.get(account_id, {})
            if found := {name: state for name, state in each.items() if self.wants(name) and told.get(name) != state}:
                news[account_id] = found
        return news

    def told_also(self, states: States) -> States:
        """``told`` once the client has been told these as well."""
        return self.told | {account_id: self.told.get(account_id, {}) | each for account_id, each in states.items()}


_COLUMNS = tuple(field.name for field in msgspec.structs.fields(Subscription))
_READ = f"SELECT {', '.join(_COLUMNS)} FROM core_push_subscription"  # noqa: S608 - names of our own
_WRITE = (
    f"INSERT OR REPLACE INTO core_push_subscription ({', '.join(_COLUMNS)})"  # noqa: S608
    f" VALUES ({', '.join('?' * len(_COLUMNS))})"
)
_JSON = {"types": tuple[str, ...] | None, "told": States}


def _subscription(row: tuple[object, ...]) -> Subscription:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name, kind in _JSON.items():
        values[name] = msgspec.json.decode(str(values[name] or "null"), type=kind)
    return Subscription(**values)  # type: ignore[arg-type]


def every(store: Store) -> list[Subscription]:
    """All of them, by id."""
    return [_subscription(row) for row in store.own.rows(f"{_READ} ORDER BY id")]


def one(store: Store, id_: str) -> Subscription | None:
    row = store.own.row(f"{_READ} WHERE id = ?", (id_,))
    return None if row is None else _subscription(row)


def save(store: Store, row: Subscription) -> Subscription:
    values = msgspec.structs.asdict(row)
    for name in _JSON:
        values[name] = None if values[name] is None else msgspec.json.encode(values[name]).decode()
    store.own.write(lambda txn: txn.execute(_WRITE, tuple(values[name] for name in _COLUMNS)))
    return row


def change(store: Store, id_: str, **values: object) -> Subscription | None:
    """Write some columns of a row as it is now; None where it has gone meanwhile (it is not made again)."""
    row = one(store, id_)
    return None if row is None else save(store, msgspec.structs.replace(row, **values))


def erase(store: Store, ids: list[str]) -> None:
    """Remove rows, zeroed in the file and gone from the WAL (RFC 8620 §7.2: "securely erase the URL and … keys")."""
    if not ids:
        return
    store.own.rows("PRAGMA secure_delete=ON")
    delete = "DELETE FROM core_push_subscription WHERE id = ?"
    store.own.write(lambda txn: txn.executemany(delete, [(id_,) for id_ in ids]))
    store.own.checkpoint()


def created_since(store: Store, moment: float) -> int:
    """How many creations were tried since then."""
    return int(store.own.value("SELECT count(*) FROM core_push_creation WHERE at > ?", (moment,)))


def note_creation(store: Store, now: float, keep: float) -> None:
    """Remember one; forget those of more than ``keep`` seconds ago."""

    def work(txn: Txn) -> None:
        txn.execute("DELETE FROM core_push_creation WHERE at <= ?", (now - keep,))
        txn.execute("INSERT INTO core_push_creation VALUES (?)", (now,))

    store.own.write(work)
