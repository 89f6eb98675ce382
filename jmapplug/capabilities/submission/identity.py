"""Identity/get, /changes, /set (RFC 8621 §6).

The account's own address has an Identity that is always there; others are made by clients, with addresses that the
account's settings allow (``sendAs``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from jmapplug.capabilities.submission import store as sql
from jmapplug.capabilities.submission.addresses import allowed, is_mailbox, is_pattern
from jmapplug.capabilities.submission.changelog import changes_of
from jmapplug.capabilities.submission.store import IdentityRow
from jmapplug.jmap import patch, sets, standard
from jmapplug.jmap.checks import Checker, is_string, nullable
from jmapplug.jmap.errors import SetError
from jmapplug.jmap.ids import mint, random_id
from jmapplug.jmap.methods import Args, Call
from jmapplug.jmap.sets import Record
from jmapplug.jmap.standard import ChangeSet

MOST = 1_000
MAX_TEXT = 256 * 1024


def may_send_from(account: Any) -> tuple[str, ...]:
    """The addresses and patterns that an account may send from: its own, and its setting ``sendAs``."""
    return (account.email, *(getattr(account.settings, "sendAs", None) or ()))


def ensure_default(account: Any) -> None:
    """The Identity of the account's own address; its id stays when the address changes."""
    id_ = mint("i", account.store.salt, "identity")
    known = next((row for row in sql.identities(account.store) if row.id == id_), None)
    if known is None:
        known = IdentityRow(id_, "", "", None, None, "", "", 0, 0)
    if known.email != account.email:
        sql.save_identity(account.store, known._replace(email=account.email))


def find(account: Any, id_: str) -> IdentityRow | None:
    return next((row for row in sql.identities(account.store) if row.id == id_), None)


# --- properties ----------------------------------------------------------------------------------------------------


def _text(value: Any) -> bool:
    return is_string(value) and len(value) <= MAX_TEXT


def _addresses(value: Any) -> bool:
    """EmailAddress[] of RFC 8621 §4.1.2.3."""
    return (
        isinstance(value, list)
        and len(value) <= 100
        and all(
            isinstance(one, dict)
            and one.keys() <= {"name", "email"}
            and isinstance(one.get("email"), str)
            and (one.get("name") is None or isinstance(one["name"], str))
            for one in value
        )
    )


DEFAULTS: dict[str, Any] = {"name": "", "replyTo": None, "bcc": None, "textSignature": "", "htmlSignature": ""}
CHECKS: dict[str, Checker] = {
    "name": lambda value: is_string(value) and len(value) <= 1_000,
    "replyTo": nullable(_addresses),
    "bcc": nullable(_addresses),
    "textSignature": _text,
    "htmlSignature": _text,
}
PROPERTIES = ("id", "name", "email", "replyTo", "bcc", "textSignature", "htmlSignature", "mayDelete")


def _json(row: IdentityRow) -> Record:
    return {
        "id": row.id,
        "name": row.name,
        "email": row.email,
        "replyTo": _list(row.reply_to),
        "bcc": _list(row.bcc),
        "textSignature": row.text_signature,
        "htmlSignature": row.html_signature,
        "mayDelete": bool(row.may_delete),
    }


def _list(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _column(value: Any) -> str | None:
    """Addresses as stored; a name that was left out is null (RFC 8621 §4.1.2.3)."""
    if value is None:
        return None
    return msgspec.json.encode([{"name": one.get("name"), "email": one["email"]} for one in value]).decode()


def _stored(row: IdentityRow, values: Record) -> IdentityRow:
    return row._replace(
        name=values["name"],
        reply_to=_column(values["replyTo"]),
        bcc=_column(values["bcc"]),
        text_signature=values["textSignature"],
        html_signature=values["htmlSignature"],
    )


def _checked(values: Record, immutable: Mapping[str, Any]) -> Record:
    """``values`` without what must be as it is. Raises SetError invalidProperties, naming all that is wrong."""
    wrong = [
        name
        for name, value in values.items()
        if not (CHECKS[name](value) if name in CHECKS else name in immutable and value == immutable[name])
    ]
    if wrong:
        raise SetError("invalidProperties", "These are unknown, of the wrong type, or not to be set.", sorted(wrong))
    return {name: value for name, value in values.items() if name in CHECKS}


# --- the methods ---------------------------------------------------------------------------------------------------


class IdentitySource(standard.StoredType):
    """``GetSource``, ``ChangesSource`` and ``SetSource`` of Identities."""

    name = "Identity"
    properties = frozenset(PROPERTIES)
    default_properties: tuple[str, ...] = PROPERTIES

    def all_ids(self, account: Any, limit: int) -> Sequence[str] | None:
        return [row.id for row in sql.identities(account.store)]

    def load(self, call: Call, ids: list[str], properties: tuple[str, ...], args: Args) -> list[Record]:
        found = {row.id: _json(row) for row in sql.identities(call.account.store)}
        return [{name: found[id_][name] for name in properties} for id_ in ids if id_ in found]

    def changes(self, account: Any, since: str, max_changes: int | None) -> ChangeSet:
        return changes_of(account, "Identity", since, max_changes)

    def create(self, call: Call, record: Record, args: Args) -> Record:
        """Raises SetError invalidProperties, forbiddenFrom, overQuota."""
        account, email = call.account, record.get("email")
        if not isinstance(email, str) or not (is_mailbox(email) or is_pattern(email)):
            raise SetError("invalidProperties", "email must be an e-mail address.", ["email"])
        given = {name: value for name, value in record.items() if name != "email"}
        values = DEFAULTS | _checked({k: v for k, v in given.items() if not _is_null_default(k, v)}, {})
        if not allowed(email, may_send_from(account)):
            raise SetError("forbiddenFrom", "This account may not send from this address.")
        if len(sql.identities(account.store)) >= MOST:
            raise SetError("overQuota", f"An account has {MOST} Identities at most.")
        row = _stored(IdentityRow(random_id("i"), "", email, None, None, "", "", 1, 0), values)
        sql.save_identity(account.store, row)
        made = _json(row)
        return {name: value for name, value in made.items() if name not in record or record[name] != value}

    def update(self, call: Call, id: str, changes: Record, args: Args) -> Record | None:
        """Raises SetError notFound, invalidPatch, invalidProperties."""
        row = find(call.account, id)
        if row is None:
            raise SetError("notFound")
        shown = _json(row)
        # RFC 8620 §5.3: null sets a property to its default value.
        values = patch.apply(shown, changes, DEFAULTS)
        checked = _checked(values, {name: shown[name] for name in ("id", "email", "mayDelete")})
        missing = [name for name in ("id", "email", "mayDelete") if name not in values]
        if missing:
            raise SetError("invalidProperties", "These cannot be removed.", missing)
        changed = _stored(row, DEFAULTS | checked)
        if changed != row:
            sql.save_identity(call.account.store, changed)
        return None

    def destroy(self, call: Call, id: str, args: Args) -> None:
        """Raises SetError notFound, forbidden."""
        row = find(call.account, id)
        if row is None:
            raise SetError("notFound")
        if not row.may_delete:
            raise SetError("forbidden", "The Identity of the account's own address stays.")
        sql.forget_identity(call.account.store, id)


def _is_null_default(name: str, value: Any) -> bool:
    """Real clients send null for a signature or name that is not there."""
    return value is None and name in DEFAULTS


IDENTITY = IdentitySource()
get = partial(standard.get, source=IDENTITY)
changes = partial(standard.changes, source=IDENTITY)
set_ = partial(sets.set_, source=IDENTITY)
