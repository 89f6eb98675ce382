"""An account's Sieve scripts: looked at upstream, with their ids, blobs and states (RFC 9661).

Other clients change scripts without a word, so every call looks upstream first: one LISTSCRIPTS and the contents, two
round trips for up to 16 scripts. What was seen moves the states of SieveScript and VacationResponse where it differs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from gevent.lock import RLock

from jmapplug.capabilities.sieve import store as sql
from jmapplug.capabilities.sieve.force import MASTER, VACATION, View, master
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.ids import random_id
from jmapplug.store.blobs import BlobRef

URN = "urn:ietf:params:jmap:sieve"
TYPE = "application/sieve"
MAX_SCRIPT = 1_000_000
"""Octets; announced as maxSizeScript. A server may take less and then answers tooLarge."""


def blob_id(content: bytes) -> str:
    """``s-`` and a digest: the same id is the same content for ever."""
    return "s-" + hashlib.sha256(content).hexdigest()[:40]


class Scripts:
    """``lock`` is held while scripts are looked at or changed: one call at a time for an account."""

    def __init__(self, account: Any) -> None:
        self.account = account
        self.lock = RLock()

    @property
    def extensions(self) -> frozenset[str]:
        """Raises UpstreamError."""
        return frozenset(self.account.sieve_source().features().extensions)

    def look(self, moved: dict[str, str] | None = None) -> View:
        """Every script upstream, now. ``moved``: see :meth:`note`. Raises UpstreamError."""
        source = self.account.sieve_source()
        with self.lock:
            listed = source.scripts()
            # A name that is no UTF-8 cannot be told in JSON.
            names = [name for name, _ in listed if _encodable(name)]
            view = View(source.read_all(names), next((name for name, active in listed if active), None))
            self.learn()
            return self._mended(view, self.note(view, moved))

    def _mended(self, view: View, moved: dict[str, str]) -> View:
        """Another client has renamed the script that the master includes: it is to run on, as it would without us."""
        target = next((moved[name] for name in view.included or () if moved.get(name) in view.contents), None)
        if view.active != MASTER or target is None or view.user is not None:
            return view
        view = view.put(MASTER, master(target))
        self.account.sieve_source().write(MASTER, view.contents[MASTER])
        self.note(view)
        return view

    def learn(self) -> None:
        """Tell the Session what this server can do. Connects only when there was no connection yet."""
        features = self.account.sieve_source().features()
        self.account.learn(
            URN,
            {
                "implementation": features.implementation,
                "maxNumberRedirects": features.max_redirects,
                "sieveExtensions": list(features.extensions),
                "notificationMethods": None if features.notify is None else list(features.notify),
                "externalLists": None if features.lists is None else list(features.lists),
            },
        )

    def note(self, view: View, moved: dict[str, str] | None = None) -> dict[str, str]:
        """Remember what is there now: ids, blobs, states. ``moved``: our own renames (old → new), if they happened.

        All renames that were seen.
        """
        store = self.account.store
        hashes = {name: blob_id(content) for name, content in view.contents.items()}
        seen = self._bind(hashes, {a: b for a, b in (moved or {}).items() if b in hashes and a not in hashes})
        for name, content in view.contents.items():
            if store.blobs.find(hashes[name]) is None:
                store.blobs.store(hashes[name], content)
        shown = [f"{name!r} {hashes[name]} {name == view.shown}" for name in view.visible]
        vacation = f"{hashes.get(VACATION)} {view.vacation_runs}"
        sql.see(store, hashes, {"SieveScript": _digest("\n".join(shown)), "VacationResponse": _digest(vacation)})
        return seen

    def _bind(self, hashes: dict[str, str], moved: dict[str, str]) -> dict[str, str]:
        store = self.account.store
        known = sql.bindings(store)
        new = [name for name in hashes if name not in known and name not in moved.values()]
        gone = [name for name in known if name not in hashes and name not in moved]
        # Renamed by somebody else: one name went, one came, and the content says that they are the same.
        before = sql.hashes(store)
        moved = moved | _renamed([(name, before.get(name)) for name in gone], [(name, hashes[name]) for name in new])
        fresh = {name: random_id("s") for name in new if name not in moved.values()}
        gone = [name for name in gone if name not in moved]
        if gone or moved or fresh:
            sql.bind(store, gone, moved, fresh)
        return moved

    def ids(self) -> dict[str, str]:
        """Name → id of every script at the last look."""
        return sql.bindings(self.account.store)


def _renamed(gone: list[tuple[str, str | None]], new: list[tuple[str, str]]) -> dict[str, str]:
    left, came = Counter(hash_ for _, hash_ in gone), Counter(hash_ for _, hash_ in new)
    target = {hash_: name for name, hash_ in new if came[hash_] == 1}
    return {name: target[hash_] for name, hash_ in gone if hash_ in target and left[hash_] == 1}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def scripts_of(account: Any) -> Scripts:
    """Raises MethodError accountNotSupportedByMethod for an account without ManageSieve."""
    service = account.services.get(URN)
    if service is None:
        raise MethodError("accountNotSupportedByMethod", "This account's mail server offers no Sieve scripts")
    scripts: Scripts = service.scripts
    return scripts


def find_blob(account: Any, ident: str) -> BlobRef | None:
    """The content of a script, as long as a script has it or it is cached here."""
    store = account.store
    name = sql.name_with(store, ident)
    path = store.blobs.find(ident)
    if path is None and name is not None:
        try:
            content = account.sieve_source().read(name)
        except UpstreamError as error:
            raise MethodError("serverUnavailable", "The Sieve server cannot be reached at the moment.") from error
        path = store.blobs.store(ident, content) if blob_id(content) == ident else None
    return None if path is None else BlobRef(path, path.stat().st_size, TYPE, f"{name}.sieve" if name else None)
