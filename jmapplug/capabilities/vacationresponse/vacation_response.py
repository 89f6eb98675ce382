"""VacationResponse/get and /set (RFC 8621 §8). The truth is the script upstream: nothing is kept here.

``isEnabled`` is true when our script says so *and* runs: another client that activates a script of its own turns the
response off, and that is what is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from jmapplug.capabilities.sieve.content import refusal
from jmapplug.capabilities.sieve.force import VACATION, Blocked, View, apply, check_fit, plan
from jmapplug.capabilities.sieve.reading import includes
from jmapplug.capabilities.sieve.scripts import MAX_SCRIPT, Scripts, scripts_of
from jmapplug.capabilities.vacationresponse import script
from jmapplug.capabilities.vacationresponse.script import Vacation
from jmapplug.errors import UpstreamError
from jmapplug.jmap import patch as patches
from jmapplug.jmap import sets, standard
from jmapplug.jmap.checks import Checker, is_bool, is_string, is_utc_date, nullable
from jmapplug.jmap.errors import MethodError, SetError
from jmapplug.jmap.methods import Args, Call, Reply

Record = dict[str, Any]
SINGLETON = "singleton"
MAX_ADDRESSES = 100
CHECKS: dict[str, Checker] = {
    "isEnabled": is_bool,
    "fromDate": nullable(is_utc_date),
    "toDate": nullable(is_utc_date),
    "subject": nullable(is_string),
    "textBody": nullable(is_string),
    "htmlBody": nullable(is_string),
}
PROPERTIES = ("id", *CHECKS)


def read(view: View) -> Vacation:
    """What is upstream. Of a script that was edited by hand only whether it answers is known."""
    content = view.contents.get(VACATION)
    if content is None:
        return Vacation()
    vacation = script.parse(content)
    if vacation is None:
        return Vacation(isEnabled=view.vacation_runs and script.answers(content))
    return msgspec.structs.replace(vacation, isEnabled=vacation.isEnabled and view.vacation_runs)


class VacationSource(standard.StoredType):
    """``GetSource`` of one call."""

    name = "VacationResponse"
    properties = frozenset(PROPERTIES)
    default_properties: tuple[str, ...] = PROPERTIES

    def __init__(self, call: Call) -> None:
        self._view = scripts_of(call.account).look()

    def all_ids(self, account: Any, limit: int) -> Sequence[str] | None:
        return [SINGLETON]

    def load(self, call: Call, ids: list[str], properties: tuple[str, ...], args: Args) -> list[Record]:
        record = script.json_of(read(self._view))
        return [{name: record[name] for name in properties}] if SINGLETON in ids else []


def get(call: Call, args: Args) -> Reply:
    """``VacationResponse/get``. Raises MethodError accountNotSupportedByMethod and those of /get; UpstreamError."""
    return standard.get(call, args, VacationSource(call))


def set_(call: Call, args: Args) -> Reply:
    """``VacationResponse/set``. Raises MethodError accountNotSupportedByMethod and those of /set; UpstreamError."""
    scripts = scripts_of(call.account)
    with scripts.lock:
        return sets.set_(call, args, VacationSet(call, scripts))


class VacationSet(standard.StoredType):
    """``SetSource`` of one call."""

    name = "VacationResponse"

    def __init__(self, call: Call, scripts: Scripts) -> None:
        self.scripts = scripts
        self.source = call.account.sieve_source()
        self.addresses = own_addresses(call)
        self.view = scripts.look()

    def create(self, call: Call, record: Record, args: Args) -> Record:
        raise SetError("singleton", "There is one VacationResponse, and its id is singleton")

    def destroy(self, call: Call, id: str, args: Args) -> None:
        raise SetError("singleton", "The VacationResponse cannot be destroyed")

    def update(self, call: Call, id: str, patch: Record, args: Args) -> Record | None:
        if id != SINGLETON:
            raise SetError("notFound")
        current = script.json_of(read(self.view))
        wanted = checked(patches.apply(current, patch, dict.fromkeys(CHECKS)))
        content = script.render(wanted, self.addresses)
        if len(content) > MAX_SCRIPT:
            raise SetError("tooLarge", f"The vacation response has at most {MAX_SCRIPT} octets as a Sieve script")
        try:
            self._put(wanted, content)
        except Blocked as error:
            raise SetError("forbidden", str(error)) from error
        except UpstreamError as error:
            raise self._failed(error) from error
        self.scripts.note(self.view)
        return None

    def _put(self, wanted: Vacation, content: bytes) -> None:
        """The script first: it does nothing until it runs, and off it does nothing wherever it runs."""
        user = self.view.user
        if wanted.isEnabled:
            self._check(wanted, user)
        elif VACATION not in self.view.contents and wanted == Vacation():
            return
        if self.view.contents.get(VACATION) != content:
            self.source.write(VACATION, content)
            self.view = self.view.put(VACATION, content)
        self.view = apply(self.source, self.view, plan(self.view, user, wanted.isEnabled, self.scripts.extensions))

    def _check(self, wanted: Vacation, user: str | None) -> None:
        """Nothing is written before it is known that the response can run. Raises SetError, Blocked."""
        lacking = [name for name in script.needed(wanted) if name not in self.scripts.extensions]
        if "vacation" in lacking:
            raise SetError("forbidden", "This mail server sends no vacation responses")
        if lacking:
            text = f"This mail server cannot compare dates in Sieve (it lacks {', '.join(lacking)})"
            raise SetError(
                "invalidProperties", text, [name for name in ("fromDate", "toDate") if getattr(wanted, name)]
            )
        if user is not None and VACATION not in includes(self.view.contents.get(user, b"")):
            check_fit(self.view, user, self.scripts.extensions)

    def _failed(self, error: UpstreamError) -> SetError:
        """After a failure half way the state tells what the server has now."""
        try:
            self.view = self.scripts.look()
        except UpstreamError:
            return SetError("serverFail", "The Sieve server broke off; whether this was done is not known")
        refused = refusal(error)
        if refused is None or refused.type in ("invalidSieve", "invalidProperties", "alreadyExists", "sieveIsActive"):
            return SetError("serverFail", "The Sieve server did not take the vacation response")
        return refused


def own_addresses(call: Call) -> list[str]:
    """The account's address, then those of its Identities: mail to an alias is to be answered too."""
    try:
        identities = call.invoke("Identity/get", {"ids": None, "properties": ["email"]})["list"]
    except MethodError:
        identities = []  # an account that cannot send has none
    found = [call.account.email, *(each["email"] for each in identities)]
    plain = [each for each in found if each.isprintable() and "*" not in each]
    return list({each.lower(): each for each in reversed(plain)}.values())[::-1][:MAX_ADDRESSES]


def checked(record: Record) -> Vacation:
    """The values to store. Raises SetError invalidProperties."""
    values = {name: value for name, value in record.items() if name != "id"}
    wrong = [name for name, value in values.items() if name not in CHECKS or not CHECKS[name](value)]
    if record.get("id") != SINGLETON:
        wrong.append("id")
    if wrong:
        raise SetError("invalidProperties", "Unknown, or of the wrong type", [name[:100] for name in wrong])
    return Vacation(**values)
