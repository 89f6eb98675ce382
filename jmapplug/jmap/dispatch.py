"""Runs the method calls of a Request, in order, against a table of methods (RFC 8620 §3.3-3.7).

Per call: is the method known and its capability in ``using`` → references → accountId → admission → the handler.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from jmapplug.jmap.errors import MethodError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Limits, Method, MethodTable, Reply
from jmapplug.jmap.references import Budget, resolve
from jmapplug.jmap.request import Answer, AnyAnswer, Invocation, Request

AccountFor = Callable[[str], Any | None]
OnCall = Callable[[str, float, str | None], None]
"""(method name, seconds, error type or None). A name that is no method of ours is reported as ``unknown``."""
OnError = Callable[[str, Exception], None]
"""(method name, the exception that became serverFail)."""
ErrorMap = Callable[[Exception], MethodError | None]
"""Turns an exception of the handlers' world into a method error; None: it is a defect (serverFail, on_error)."""
Admit = Callable[[Method, Any], None]
"""(method, account): raises MethodError accountNotSupportedByMethod, accountReadOnly, forbidden."""

_encoder = msgspec.json.Encoder()


class Outcome(msgspec.Struct, frozen=True):
    """The responses of a Request or run, and its creation ids: those it came with and those it made."""

    responses: list[Answer]
    created_ids: dict[str, str]


def execute(
    request: Request,
    methods: MethodTable,
    account_for: AccountFor,
    limits: Limits,
    *,
    session_state: str,
    previous: Sequence[AnyAnswer] = (),
    created_ids: Mapping[str, str] | None = None,
    error_map: ErrorMap | None = None,
    on_error: OnError | None = None,
    on_call: OnCall | None = None,
    admit: Admit | None = None,
    login: Any = None,
    credential: str = "",
) -> bytes:
    """The Response (RFC 8620 §3.4) as JSON. Never raises an Exception.

    ``login``: the account that methods of the login work on (``Method.of_login``); ``credential``: what was logged in
    with.
    """
    outcome = run(
        request,
        methods,
        account_for,
        limits,
        previous=previous,
        created_ids=created_ids,
        error_map=error_map,
        on_error=on_error,
        on_call=on_call,
        admit=admit,
        login=login,
        credential=credential,
    )
    # RFC 8620 §3.4: createdIds is only returned if given in the request.
    made = None if request.created_ids is None else outcome.created_ids
    return encode_response(outcome.responses, session_state, made, on_error)


def run(
    request: Request,
    methods: MethodTable,
    account_for: AccountFor,
    limits: Limits,
    *,
    previous: Sequence[AnyAnswer] = (),
    created_ids: Mapping[str, str] | None = None,
    error_map: ErrorMap | None = None,
    on_error: OnError | None = None,
    on_call: OnCall | None = None,
    admit: Admit | None = None,
    login: Any = None,
    credential: str = "",
) -> Outcome:
    """Run every call. ``previous``: earlier responses of the same Request (those in ``request.previous`` come first);
    ``created_ids``: instead of the Request's own. A call that fails does not stop those behind it (§3.6.2).
    """
    made = dict(created_ids if created_ids is not None else request.created_ids or {})
    runner = _Runner(request, methods, account_for, limits, made, [*request.previous, *previous])
    runner.error_map, runner.on_error, runner.on_call, runner.admit = error_map, on_error, on_call, admit
    runner.login, runner.credential = login, credential
    responses: list[Answer] = []
    for invocation in request.calls:
        for answer in runner.answers(invocation):
            responses.append(answer)
            runner.earlier.append(answer)
    return Outcome(responses, made)


def invoke(methods: MethodTable, name: str, account_id: str, account: Any, limits: Limits, args: Args) -> Reply:
    """Run one method that no Request called, for background work of the account.

    Raises MethodError, and what the method itself lets through.
    """
    method = methods.get(name)
    if method is None:
        raise MethodError("unknownMethod")
    call = Call(name, account_id, account, limits, {}, frozenset())
    call.invoke = lambda other, more: invoke(methods, other, account_id, account, limits, more)
    return method.handler(call, {"accountId": account_id, **args})


class _Runner:
    """One Request under way."""

    error_map: ErrorMap | None = None
    on_error: OnError | None = None
    on_call: OnCall | None = None
    admit: Admit | None = None
    login: Any = None
    credential = ""

    def __init__(
        self,
        request: Request,
        methods: MethodTable,
        account_for: AccountFor,
        limits: Limits,
        created_ids: dict[str, str],
        earlier: list[AnyAnswer],
    ) -> None:
        self.using = request.using
        self.methods = methods
        self.account_for = account_for
        self.limits = limits
        self.created_ids = created_ids
        self.earlier = earlier
        self.budget = Budget()

    def answers(self, invocation: Invocation) -> list[Answer]:
        """All responses to one call: its own, then those of its implicit calls."""
        name, call_id = invocation.name, invocation.call_id
        started = time.perf_counter()
        failure: str | None = None
        try:
            reply, extra = self.reply(name, invocation.args)
            answers = [Answer(name, reply, call_id), *(Answer(*each, call_id) for each in extra)]
        except Exception as error:
            refused = self.failure(name, error)
            failure = refused.type
            answers = [Answer("error", refused.to_json(), call_id)]
        if self.on_call is not None:
            seconds = time.perf_counter() - started
            self.on_call(name if name in self.methods else "unknown", seconds, failure)
        return answers

    def reply(self, name: str, args: Args) -> tuple[Reply, list[tuple[str, Reply]]]:
        method = self.method(name)
        args = resolve(args, self.earlier, self.budget)
        account_id, account = self.account(args) if method.needs_account else ("", None)
        if method.of_login:
            account = self.login
        if self.admit is not None:
            self.admit(method, account)
        call = Call(name, account_id, account, self.limits, self.created_ids, self.using, self.credential)
        call.invoke = partial(self.invoked, call)
        return method.handler(call, args), call.extra

    def invoked(self, caller: Call, name: str, args: Args) -> Reply:
        """A method that another one runs (``Call.invoke``); its implicit calls become the caller's."""
        method = self.methods.get(name)
        if method is None:
            raise MethodError("unknownMethod")
        try:
            return method.handler(replace(caller, name=name), {"accountId": caller.account_id, **args})
        except MethodError:
            raise
        except Exception as error:
            raise self.failure(name, error) from error

    def method(self, name: str) -> Method:
        method = self.methods.get(name)
        # RFC 8620 §3.3: a client opts in to methods through `using`; what it has not named does not exist for it.
        if method is None or (method.capability not in self.using and self.using.isdisjoint(method.also)):
            raise MethodError("unknownMethod")
        return method

    def account(self, args: Args) -> tuple[str, Any]:
        account_id = args.get("accountId")
        if not isinstance(account_id, str):
            raise invalid_arguments("accountId must be a string", "accountId")
        account = self.account_for(account_id)
        if account is None:
            raise MethodError("accountNotFound")
        return account_id, account

    def failure(self, name: str, error: Exception) -> MethodError:
        if isinstance(error, MethodError):
            return error
        mapped = None if self.error_map is None else self.error_map(error)
        if mapped is not None:
            return mapped
        # The exception's text may hold anything (addresses, SQL, secrets): it goes to the log, not to the client.
        if self.on_error is not None:
            self.on_error(name, error)
        return server_fail()


def server_fail() -> MethodError:
    """RFC 8620 §3.6.2 serverFail, with the text that clients get for a defect of ours."""
    return MethodError("serverFail", "The server failed to process this call; its log says why")


def encode_response(
    responses: Sequence[AnyAnswer],
    session_state: str,
    created_ids: Mapping[str, str] | None,
    on_error: OnError | None = None,
) -> bytes:
    """The Response object (RFC 8620 §3.4) as JSON; ``created_ids`` None: left out."""
    body: dict[str, Any] = {"methodResponses": responses, "sessionState": session_state}
    if created_ids is not None:
        body["createdIds"] = created_ids
    return _encode(body, on_error)


def encode_run(outcome: Outcome, on_error: OnError | None = None) -> bytes:
    """A worker's answer to a run of a Request: ``{"methodResponses", "createdIds"}``."""
    return _encode({"methodResponses": outcome.responses, "createdIds": outcome.created_ids}, on_error)


def _encode(body: dict[str, Any], on_error: OnError | None) -> bytes:
    try:
        return _encoder.encode(body)
    except Exception:
        # A handler answered something that is no JSON: only that call fails.
        body["methodResponses"] = [_encoded(answer, on_error) for answer in body["methodResponses"]]
        return _encoder.encode(body)


def _encoded(answer: AnyAnswer, on_error: OnError | None) -> Any:
    try:
        return msgspec.Raw(_encoder.encode(answer))
    except Exception as error:
        if on_error is not None:
            on_error(answer.name, error)
        return Answer("error", server_fail().to_json(), answer.call_id)
