"""The front's side of a Request that names several accounts: it is cut into runs, one after the other, each for the
worker of one account (RFC 8620 §3.3: ``createdIds`` exist for this; §3.10: calls run in order).

A *run* is a stretch of consecutive calls for one account. What belongs to the login (PushSubscription, RFC 8620 §7.2)
counts as named for the account logged in with. What belongs to no account (Core/echo, unknown methods, a
missing or foreign accountId) stays with the run it stands in: any worker answers it the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from jmapplug.jmap.dispatch import encode_response
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.references import result_of
from jmapplug.jmap.request import Answer, AnyAnswer, Invocation, RawAnswer, Request

_encoder = msgspec.json.Encoder()


class Run(msgspec.Struct, frozen=True):
    """Consecutive calls of a Request for one account. ``position``: the index of the first one in the Request."""

    account_id: str
    position: int
    calls: tuple[Invocation, ...]


class RunAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """What a worker answered to a run; the responses stay encoded."""

    method_responses: list[RawAnswer]
    created_ids: dict[str, str]


_answer_decoder = msgspec.json.Decoder(RunAnswer)


def split(
    request: Request, primary: str, accounts: Collection[str] | None = None, of_login: Collection[str] = ()
) -> list[Run]:
    """The runs of a Request, at least one. ``primary``: the account for a Request that names none.

    ``accounts``: those that this login may use; any other accountId makes no run of its own, so the worker that
    meets it answers accountNotFound. None: every accountId makes a run. ``of_login``: names of methods of the login.
    """
    runs: list[Run] = []
    current: str | None = None
    first = 0
    for index, call in enumerate(request.calls):
        named = primary if call.name in of_login else call.args.get("accountId")
        if not isinstance(named, str) or (accounts is not None and named not in accounts) or named == current:
            continue
        if current is not None:
            runs.append(Run(current, first, request.calls[first:index]))
            first = index
        current = named
    runs.append(Run(current if current is not None else primary, first, request.calls[first:]))
    return runs


def needed(run: Run, earlier: Iterable[AnyAnswer]) -> list[AnyAnswer]:
    """The responses among ``earlier`` that references in ``run`` can mean: the first one of each call id they name."""
    wanted = {call_id for call in run.calls for call_id in result_of(call.args)}
    found: list[AnyAnswer] = []
    for answer in earlier if wanted else ():
        if answer.call_id in wanted:
            wanted.discard(answer.call_id)
            found.append(answer)
    return found


def encode_body(
    run: Run, using: Collection[str], created_ids: Mapping[str, str] | None, previous: Sequence[AnyAnswer] = ()
) -> bytes:
    """The body of a run on its way to a worker (`request.trusted` reads it)."""
    body: dict[str, Any] = {
        "using": sorted(using),
        "methodCalls": run.calls,
        "createdIds": created_ids,
        "previous": previous,
    }
    return _encoder.encode(body)


def decode_answer(body: bytes) -> RunAnswer:
    """A worker's answer to a run (`dispatch.encode_run` wrote it). Raises msgspec.MsgspecError."""
    return _answer_decoder.decode(body)


def failed(run: Run, error: MethodError) -> list[Answer]:
    """The responses of a run whose worker gave none: ``error`` for each call."""
    return [Answer("error", error.to_json(), call.call_id) for call in run.calls]


def merge(
    answers: Iterable[Sequence[AnyAnswer]],
    session_state: str,
    created_ids: Mapping[str, str] | None,
) -> bytes:
    """The Response to the client: the responses of all runs in order. ``created_ids`` None: the client sent none."""
    responses = [answer for each in answers for answer in each]
    return encode_response(responses, session_state, created_ids)
