"""A checked Request on its way to the workers and its Response back, for ``POST /jmap`` and WebSocket alike."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

from jmapplug.errors import JmapplugError, StorageError
from jmapplug.jmap import runs
from jmapplug.jmap.errors import MethodError, RequestError
from jmapplug.jmap.request import AnyAnswer, Request
from jmapplug.jmap.runs import Run
from jmapplug.web.auth import Principal
from jmapplug.web.front import Front
from jmapplug.workers.errors import NotFound, WorkerUnavailable

TIMEOUT = 120.0  # seconds for one request in a worker: searches upstream have deadlines of their own


def place(here: Front, principal: Principal) -> AbstractContextManager[None]:
    """One of the login's maxConcurrentRequests, on whichever connection. Entering it raises RequestError limit."""
    return here.requests.one(principal.key)


def answer(here: Front, principal: Principal, state: str, parsed: Request, body: bytes) -> bytes:
    """The Response's bytes; ``state``: the Session's. One account: they come from its worker as they are."""
    parts = runs.split(parsed, principal.account_id, principal.accounts, here.of_login)
    if len(parts) == 1:
        try:
            return _call(here, principal, parts[0], {"session_state": state}, body)
        except (JmapplugError, MethodError) as error:
            return runs.merge([runs.failed(parts[0], _failure(error))], state, parsed.created_ids)
    created = dict(parsed.created_ids or {})
    answers: list[AnyAnswer] = []
    for part in parts:
        answers.extend(_run(here, principal, part, parsed, created, answers))
    return runs.merge([answers], state, created if parsed.created_ids is not None else None)


def _run(
    here: Front,
    principal: Principal,
    part: Run,
    parsed: Request,
    created: dict[str, str],
    earlier: Iterable[AnyAnswer],
) -> Iterable[AnyAnswer]:
    body = runs.encode_body(part, parsed.using, created, runs.needed(part, earlier))
    try:
        told = runs.decode_answer(_call(here, principal, part, {"run": True}, body))
    except (JmapplugError, MethodError) as error:
        return runs.failed(part, _failure(error))
    created.update(told.created_ids)
    return told.method_responses


def _call(here: Front, principal: Principal, part: Run, header: dict[str, object], body: bytes) -> bytes:
    header["credential"] = principal.credential
    here.metrics.backend_requests += 1
    here.metrics.under_way += 1
    # Mail-rule 28: only a request made wholly of reading methods may run twice.
    methods = here.plugins.methods
    retry = all(call.name in methods and methods[call.name].retry for call in part.calls)
    try:
        told, response = here.client.call(part.account_id, "jmap", header, body, TIMEOUT, retry=retry)
    except JmapplugError:
        here.metrics.backend_errors += 1
        raise
    finally:
        here.metrics.under_way -= 1
    here.metrics.called(told.get("calls") or ())
    return response


def _failure(error: Exception) -> MethodError:
    """What each call of a run is told whose worker gave no answer."""
    if isinstance(error, MethodError):
        return error
    if isinstance(error, WorkerUnavailable):
        kind = "serverPartialFail" if error.sent_upstream else "serverUnavailable"
        return MethodError(kind, "the account's worker is not available; try again")
    if isinstance(error, NotFound):
        return MethodError("accountNotFound")
    if isinstance(error, StorageError):
        return MethodError("serverUnavailable", "The server cannot store anything at the moment.")
    return MethodError("serverFail", "the account's worker failed")


def too_large(here: Front) -> RequestError:
    """The answer to a Request of more than maxSizeRequest octets, which is not read to its end."""
    limit = here.limits.max_size_request
    return RequestError("limit", f"a request may have {limit} octets", status=413, limit="maxSizeRequest")
