"""SieveScript/set (RFC 9661 §2.4)."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from jmapplug.capabilities.sieve.content import read_content, refusal
from jmapplug.capabilities.sieve.force import MASTER, RESERVED, VACATION, Blocked, View, apply, master, plan
from jmapplug.capabilities.sieve.scripts import Scripts, blob_id, scripts_of
from jmapplug.errors import UpstreamError
from jmapplug.jmap import patch as patches
from jmapplug.jmap import sets, standard
from jmapplug.jmap.checks import Checker, is_bool, is_string
from jmapplug.jmap.errors import MethodError, SetError
from jmapplug.jmap.methods import Args, Call, Reply

Record = dict[str, Any]
MAX_NAME = 512
"""Octets (RFC 9661 §1.2.1: at least 512)."""
# RFC 9661 §2.1: names that ManageSieve cannot carry.
_FORBIDDEN = re.compile("[\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]")
_RESERVED_TEXT = "This name belongs to the vacation response, which VacationResponse/set changes"


def set_(call: Call, args: Args) -> Reply:
    """``SieveScript/set``: the standard method, then what is to be activated.

    Raises MethodError accountNotSupportedByMethod and those of /set; serverPartialFail where the records are done and
    the activation failed; UpstreamError where nothing was sent.
    """
    scripts = scripts_of(call.account)
    with scripts.lock:
        source = ScriptSet(call, scripts)
        reply = sets.set_(call, args, source)
        failed = any(reply[name] for name in ("notCreated", "notUpdated", "notDestroyed"))
        if not failed:
            try:
                source.activation(args)
            except UpstreamError as error:
                raise MethodError("serverPartialFail", "The scripts are stored; activating failed") from error
            source.tell_active(reply)
        reply["newState"] = source.state(call.account)
        return reply


class ScriptSet(standard.StoredType):
    """``SetSource`` of one call; ``view`` follows what the call changes."""

    name = "SieveScript"
    extra_args: Mapping[str, Checker] = {"onSuccessActivateScript": is_string, "onSuccessDeactivateScript": is_bool}

    def __init__(self, call: Call, scripts: Scripts) -> None:
        self.call = call
        self.scripts = scripts
        self.source = call.account.sieve_source()
        self.view: View = scripts.look()
        self.shown_before = self._shown_id()

    # --- records

    def create(self, call: Call, record: Record, args: Args) -> Record:
        _only(record, {"name", "blobId"}, {"isActive": False})
        name = self._default_name() if record.get("name") is None else self._name(record["name"])
        content = read_content(call.account, self._blob(record.get("blobId")))
        self._free(name)
        self._do(
            lambda: self.source.write(name, content),
            self.view.put(name, content),
            lambda view: view.contents.get(name) == content,
        )
        made = {"id": self.scripts.ids()[name], "blobId": blob_id(content), "isActive": False}
        return made | ({} if record.get("name") == name else {"name": name})

    def update(self, call: Call, id: str, patch: Record, args: Args) -> Record | None:
        old = self._script(id)
        current = {
            "id": id,
            "name": old,
            "blobId": blob_id(self.view.contents[old]),
            "isActive": old == self.view.shown,
        }
        wanted = patches.apply(current, patch, {"name": None})
        _only(wanted, {"name", "blobId"}, {"id": id, "isActive": current["isActive"]})
        name = self._default_name() if wanted.get("name") is None else self._name(wanted["name"], old)
        new_content = wanted.get("blobId") != current["blobId"]
        before = self.view.contents[old]
        content = read_content(call.account, self._blob(wanted.get("blobId"))) if new_content else before
        if old == VACATION and (name != old or content != before):
            # RFC 9661 §4
            raise SetError("forbidden", _RESERVED_TEXT)
        if name != old:
            self._free(name)
        if content != before:
            self._write(old, content)
        if name != old:
            try:
                self._rename(old, name)
            except SetError:
                # RFC 8620 §5.3: all of an update or nothing.
                if content != before:
                    self._write(old, before)
                raise
        changed = {"name": name} if name != wanted.get("name") else {}
        if new_content and wanted["blobId"] != blob_id(content):
            changed["blobId"] = blob_id(content)
        return changed or None

    def destroy(self, call: Call, id: str, args: Args) -> None:
        name = self._script(id)
        if name == VACATION:
            raise SetError("forbidden", "The vacation response's script is changed by VacationResponse/set only")
        if name == self.view.shown:
            raise SetError("sieveIsActive", "The script is active")
        self._do(lambda: self.source.delete(name), self.view.without(name), lambda view: name not in view.contents)

    # --- which one is active

    def activation(self, args: Args) -> None:
        """RFC 9661 §2.4: deactivation first. Raises UpstreamError."""
        if args.get("onSuccessDeactivateScript"):
            # The script that clients see as active: a vacation response beside it goes on, alone.
            vacation = self.view.user is not None and self.view.vacation_runs
            self._arrange(None, vacation)
        given = args.get("onSuccessActivateScript")
        name = self._names().get(sets.resolved(self.call, given)) if isinstance(given, str) else None
        # "If omitted, or if the id is either invalid or nonexistent, it MUST be ignored".
        if name == VACATION:
            self._enable_vacation()
        elif name is not None:
            self._arrange(name, self.view.vacation_runs)

    def _enable_vacation(self) -> None:
        """RFC 9661 §4: this too turns the vacation response on; what was active is deactivated."""
        self._arrange(None, True)
        (response,) = self.call.invoke("VacationResponse/get", {"ids": None})["list"]
        if not response["isEnabled"]:
            self.call.invoke("VacationResponse/set", {"update": {"singleton": {"isEnabled": True}}})
            self.view = self.scripts.look()

    def _arrange(self, user: str | None, vacation: bool) -> None:
        try:
            steps = plan(self.view, user, vacation, self.scripts.extensions)
        except Blocked:
            # Where both cannot run, activating the one deactivates the other.
            steps = plan(self.view, user, False, self.scripts.extensions)
        if steps:
            self.view = apply(self.source, self.view, steps)
            self.scripts.note(self.view)

    def tell_active(self, reply: Reply) -> None:
        """RFC 9661 §2.4: isActive of what was activated and deactivated, in "created" or "updated"."""
        now = self._shown_id()
        if now == self.shown_before:
            return
        made = {record["id"]: record for record in (reply["created"] or {}).values()}
        for id_, active in ((self.shown_before, False), (now, True)):
            if id_ in made:
                made[id_]["isActive"] = active
            elif id_ is not None:
                reply["updated"] = updated = reply["updated"] or {}
                updated[id_] = (updated.get(id_) or {}) | {"isActive": active}

    # --- helpers

    def _names(self) -> dict[str, str]:
        """Id → name of what clients see."""
        ids = self.scripts.ids()
        return {ids[name]: name for name in self.view.visible}

    def _shown_id(self) -> str | None:
        return self.scripts.ids().get(self.view.shown or "")

    def _script(self, id_: str) -> str:
        name = self._names().get(id_)
        if name is None:
            raise SetError("notFound")
        return name

    def _blob(self, given: Any) -> Any:
        return sets.resolved(self.call, given) if isinstance(given, str) else given

    def _name(self, given: Any, old: str | None = None) -> str:
        """A name that may be given; NFC, as Net-Unicode wants (RFC 5198 §2). Raises SetError."""
        if not isinstance(given, str) or not given or _FORBIDDEN.search(given):
            raise SetError("invalidProperties", "A name is text without control characters, or null", ["name"])
        if given == old:
            return given
        name = unicodedata.normalize("NFC", given)
        if len(name.encode()) > MAX_NAME:
            raise SetError("invalidProperties", f"A name has at most {MAX_NAME} octets", ["name"])
        if name in RESERVED and name not in self.view.contents:
            raise SetError("forbidden", _RESERVED_TEXT, ["name"])
        return name

    def _default_name(self) -> str:
        stamp = time.strftime("jmap-%Y%m%dT%H%M%S", time.gmtime())
        taken = self.view.contents
        return next(name for n in range(len(taken) + 1) if (name := f"{stamp}-{n}") not in taken)

    def _free(self, name: str) -> None:
        if name in self.view.contents:
            if name == MASTER and self.view.included is not None:
                raise SetError("forbidden", _RESERVED_TEXT, ["name"])
            raise SetError("alreadyExists", "There is a script of that name", existingId=self.scripts.ids()[name])

    def _write(self, name: str, content: bytes) -> None:
        self._do(
            lambda: self.source.write(name, content),
            self.view.put(name, content),
            lambda view: view.contents.get(name) == content,
        )

    def _rename(self, old: str, new: str) -> None:
        """The script that the master includes runs under both names for the moment in which it has neither surely."""
        included = self.view.active == MASTER and self.view.included is not None and self.view.user == old
        if included:
            self._write(MASTER, master(old, new))
        try:
            self._do(
                lambda: self.source.rename(old, new),
                self.view.renamed(old, new),
                lambda view: new in view.contents and old not in view.contents,
                {old: new},
            )
        finally:
            if included:
                self._write(MASTER, master(self.view.user or old))

    def _do(
        self, step: Callable[[], None], then: View, done: Callable[[View], bool], moved: dict[str, str] | None = None
    ) -> None:
        """One change upstream; a refusal is a SetError. After a cut what really happened is read (mail-rules 24)."""
        try:
            step()
        except UpstreamError as error:
            if (refused := refusal(error)) is not None:
                raise refused from error
            self._after_a_cut(error, done, moved)
        else:
            self.view = then
            self.scripts.note(then, moved)

    def _after_a_cut(self, error: UpstreamError, done: Callable[[View], bool], moved: dict[str, str] | None) -> None:
        try:
            self.view = self.scripts.look(moved)
        except UpstreamError:
            raise SetError("serverFail", "The Sieve server broke off; whether this was done is not known") from error
        if not done(self.view):
            raise SetError("serverFail", "The Sieve server broke off; nothing was changed") from error


def _only(record: Record, own: set[str], fixed: Record) -> None:
    """Raises SetError invalidProperties for properties that are not there or not the client's to set."""
    wrong = [name for name in record if name not in own and (name not in fixed or record[name] != fixed[name])]
    if wrong:
        raise SetError("invalidProperties", "These properties cannot be set", [name[:100] for name in wrong])
