"""``POST /jmap``: limits and shape here, everything else in the account's worker (design §2, §6)."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Blueprint, Response, request

from jmapplug.errors import JmapplugError
from jmapplug.jmap import request as requests
from jmapplug.jmap import runs
from jmapplug.jmap.errors import MethodError, RequestError
from jmapplug.jmap.request import AnyAnswer, Request
from jmapplug.jmap.runs import Run
from jmapplug.web import bodies, front, sessions
from jmapplug.web.answers import NO_STORE, json_answer
from jmapplug.web.auth import Principal
from jmapplug.web.front import Front
from jmapplug.workers.errors import NotFound, WorkerUnavailable

routes = Blueprint("jmap", __name__)
TIMEOUT = 120.0  # seconds for one request in a worker: searches upstream have deadlines of their own


@routes.post("/jmap")
@routes.post("/jmap/")
def jmap() -> Response:
    """RFC 8620 §3.3. Raises RequestError for the whole Request."""
    here = front.current()
    principal = here.auth.principal(request)
    with here.requests.one(principal.account_id + principal.login):
        if request.mimetype != "application/json":
            raise RequestError("notJSON", "the Content-Type must be application/json")
        body = _body(here)
        parsed = requests.parse(body, here.plugins.capabilities, here.limits)
        return json_answer(_answer(here, principal, parsed, body), headers=NO_STORE)


def _body(here: Front) -> bytes:
    limit = here.limits.max_size_request
    try:
        return bodies.whole(request.environ, limit)
    except bodies.BodyTooLarge:
        detail = f"a request may have {limit} octets"
        raise RequestError("limit", detail, status=413, limit="maxSizeRequest") from None


def _answer(here: Front, principal: Principal, parsed: Request, body: bytes) -> bytes:
    """The Response's bytes. One account: they come from its worker as they are."""
    state = sessions.state(here, principal, request)
    of_login = {name for name, method in here.plugins.methods.items() if method.of_login}
    parts = runs.split(parsed, principal.account_id, principal.accounts, of_login)
    if len(parts) == 1:
        try:
            return _call(here, parts[0], {"session_state": state}, body)
        except (JmapplugError, MethodError) as error:
            return runs.merge([runs.failed(parts[0], _failure(error))], state, parsed.created_ids)
    created = dict(parsed.created_ids or {})
    answers: list[AnyAnswer] = []
    for part in parts:
        answers.extend(_run(here, part, parsed, created, answers))
    return runs.merge([answers], state, created if parsed.created_ids is not None else None)


def _run(
    here: Front, part: Run, parsed: Request, created: dict[str, str], earlier: Iterable[AnyAnswer]
) -> Iterable[AnyAnswer]:
    body = runs.encode_body(part, parsed.using, created, runs.needed(part, earlier))
    try:
        answer = runs.decode_answer(_call(here, part, {"run": True}, body))
    except (JmapplugError, MethodError) as error:
        return runs.failed(part, _failure(error))
    created.update(answer.created_ids)
    return answer.method_responses


def _call(here: Front, part: Run, header: dict[str, object], body: bytes) -> bytes:
    here.metrics.backend_requests += 1
    here.metrics.under_way += 1
    # Mail-rule 28: only a request made wholly of reading methods may run twice.
    methods = here.plugins.methods
    retry = all(call.name in methods and methods[call.name].retry for call in part.calls)
    try:
        told, answer = here.client.call(part.account_id, "jmap", header, body, TIMEOUT, retry=retry)
    except JmapplugError:
        here.metrics.backend_errors += 1
        raise
    finally:
        here.metrics.under_way -= 1
    here.metrics.called(told.get("calls") or ())
    return answer


def _failure(error: Exception) -> MethodError:
    """What each call of a run is told whose worker gave no answer."""
    if isinstance(error, MethodError):
        return error
    if isinstance(error, WorkerUnavailable):
        kind = "serverPartialFail" if error.sent_upstream else "serverUnavailable"
        return MethodError(kind, "the account's worker is not available; try again")
    if isinstance(error, NotFound):
        return MethodError("accountNotFound")
    return MethodError("serverFail", "the account's worker failed")
