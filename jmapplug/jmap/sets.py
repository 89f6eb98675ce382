"""/set, once for all data types (RFC 8620 §5.3): reading the arguments, creation ids, order, the response.

A type whose records change one by one is a :class:`SetSource` and uses :func:`set_`. A type that groups its writes
(Email, Mailbox) uses :func:`parse` and :class:`Outcome` around its own work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from jmapplug.jmap.checks import Checker, is_string, list_of
from jmapplug.jmap.errors import MethodError, SetError, invalid_arguments
from jmapplug.jmap.ids import is_id
from jmapplug.jmap.methods import Args, Call, Reply

_STANDARD = frozenset({"accountId", "ifInState", "create", "update", "destroy"})
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SetRequest:
    """The arguments of one /set, checked. Keys of ``update`` and items of ``destroy`` may still be "#" references.

    ``extra``: the type's own arguments, checked, without those that were null.
    """

    create: dict[str, Record]
    update: dict[str, Record]
    destroy: list[str]
    if_in_state: str | None
    extra: Args


@dataclass(slots=True)
class Outcome:
    """What became of each record; :meth:`reply` makes the response of it (RFC 8620 §5.3)."""

    created: dict[str, Record] = field(default_factory=dict)
    updated: dict[str, Record | None] = field(default_factory=dict)
    destroyed: list[str] = field(default_factory=list)
    not_created: dict[str, SetError] = field(default_factory=dict)
    not_updated: dict[str, SetError] = field(default_factory=dict)
    not_destroyed: dict[str, SetError] = field(default_factory=dict)

    def reply(self, account_id: str, old_state: str | None, new_state: str) -> Reply:
        """The response's arguments. Empty groups are null, never ``{}``: real clients test them for truth."""
        return {
            "accountId": account_id,
            "oldState": old_state,
            "newState": new_state,
            "created": self.created or None,
            "updated": self.updated or None,
            "destroyed": self.destroyed or None,
            "notCreated": errors_json(self.not_created),
            "notUpdated": errors_json(self.not_updated),
            "notDestroyed": errors_json(self.not_destroyed),
        }


def errors_json(errors: Mapping[str, SetError]) -> dict[str, Any] | None:
    """SetErrors as answered; null where there is none."""
    return {key: error.to_json() for key, error in errors.items()} or None


class SetSource(Protocol):
    """A type with /set whose records change one by one. Every method may raise SetError, for that record only."""

    @property
    def name(self) -> str: ...

    @property
    def extra_args(self) -> Mapping[str, Checker]: ...

    def state(self, account: Any) -> str: ...

    def create(self, call: Call, record: Record, args: Args) -> Record:
        """Make the record; its id and whatever the client does not know yet."""

    def update(self, call: Call, id: str, patch: Record, args: Args) -> Record | None:
        """Apply a PatchObject; properties that changed beyond it, or None."""

    def destroy(self, call: Call, id: str, args: Args) -> None: ...


def parse(call: Call, args: Args, extra_args: Mapping[str, Checker] = {}) -> SetRequest:
    """The arguments of a /set. Raises MethodError invalidArguments, requestTooLarge."""
    extra: Args = {}
    for name in args.keys() - _STANDARD:
        check = extra_args.get(name)
        if check is None:
            raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
        if args[name] is not None:
            if not check(args[name]):
                raise invalid_arguments(f"{name} has the wrong type", name)
            extra[name] = args[name]
    state = args.get("ifInState")
    if state is not None and not isinstance(state, str):
        raise invalid_arguments("ifInState must be a string or null", "ifInState")
    create = _objects(args, "create", is_id)
    update = _objects(args, "update", is_reference)
    destroy = _destroy(args.get("destroy"))
    count, limit = len(create) + len(update) + len(destroy), call.limits.max_objects_in_set
    if count > limit:
        raise MethodError("requestTooLarge", f"At most {limit} records in a call")
    return SetRequest(create, update, destroy, state, extra)


def is_reference(value: Any) -> bool:
    """An Id, or "#" and a creation id."""
    return isinstance(value, str) and is_id(value[1:] if value.startswith("#") else value)


def _objects(args: Args, name: str, key: Callable[[Any], bool]) -> dict[str, Record]:
    value = args.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(key(k) and isinstance(v, dict) for k, v in value.items()):
        raise invalid_arguments(f"{name} must be an object of ids and objects, or null", name)
    return value


def _destroy(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(id_, str) for id_ in value):
        raise invalid_arguments("destroy must be an array of ids or null", "destroy")
    return list(dict.fromkeys(value))


def check_state(request: SetRequest, state: str) -> None:
    """RFC 8620 §5.3 ifInState. Raises MethodError stateMismatch."""
    if request.if_in_state is not None and request.if_in_state != state:
        raise MethodError("stateMismatch", "The state is another one by now")


def resolved(call: Call, id_: str) -> str:
    """The id that "#creation id" stands for; the text as it is where nothing was created under that name."""
    return call.created_ids.get(id_[1:], id_) if id_.startswith("#") else id_


def blob_ids(call: Call, args: Args, name: str) -> list[str]:
    """The blob ids of an argument, creation ids resolved, each once.

    Raises MethodError invalidArguments, requestTooLarge.
    """
    value = args.get(name)
    if not isinstance(value, list) or not list_of(is_string)(value):
        raise invalid_arguments(f"{name} must be an array of ids", name)
    wanted = list(dict.fromkeys(resolved(call, id_) for id_ in value))
    limit = call.limits.max_objects_in_get
    if len(wanted) > limit:
        raise MethodError("requestTooLarge", f"At most {limit} blobs in a call")
    return wanted


def references(value: Any) -> set[str]:
    """The creation ids ("#x" → "x") that stand anywhere in a record: values, keys, and the parts of patch pointers."""
    found: set[str] = set()
    stack: list[Any] = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, str):
            found.update(part[1:] for part in one.split("/") if part.startswith("#") and is_id(part[1:]))
        elif isinstance(one, dict):
            stack.extend(one.keys())
            stack.extend(one.values())
        elif isinstance(one, list):
            stack.extend(one)
    return found


def ordered(create: Mapping[str, Record], depends: Callable[[Record], Iterable[str]]) -> list[str]:
    """The creation ids, each behind those of the same call that it depends on (RFC 8620 §5.3).

    What hangs in a circle comes last, in the given order: its references will not resolve.
    """
    waiting = {key: {one for one in depends(record) if one in create and one != key} for key, record in create.items()}
    done: list[str] = []
    while ready := [key for key, needs in waiting.items() if not needs - set(done)]:
        done += ready
        for key in ready:
            del waiting[key]
    return [*done, *waiting]


def set_(call: Call, args: Args, source: SetSource) -> Reply:
    """``Foo/set`` of a simple type: creates, updates, destroys, in that order (mail-rules 30).

    Raises MethodError invalidArguments, requestTooLarge, stateMismatch.
    """
    request = parse(call, args, source.extra_args)
    old_state = source.state(call.account)
    check_state(request, old_state)
    outcome = Outcome()
    for key in ordered(request.create, references):
        try:
            outcome.created[key] = record = source.create(call, request.create[key], request.extra)
            call.created_ids[key] = record["id"]
        except SetError as error:
            outcome.not_created[key] = error
    doomed = {resolved(call, id_) for id_ in request.destroy}
    for key, patch in request.update.items():
        id_ = resolved(call, key)
        try:
            if id_ in doomed:
                raise SetError("willDestroy")
            outcome.updated[id_] = source.update(call, id_, patch, request.extra)
        except SetError as error:
            outcome.not_updated[id_] = error
    for id_ in dict.fromkeys(resolved(call, each) for each in request.destroy):
        try:
            source.destroy(call, id_, request.extra)
            outcome.destroyed.append(id_)
        except SetError as error:
            outcome.not_destroyed[id_] = error
    return outcome.reply(call.account_id, old_state, source.state(call.account))
