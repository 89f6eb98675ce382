"""What a log line says of where it belongs: the request and the account of the greenlet, or of the whole process.

A greenlet that is spawned begins with none: what it does is not the request's own work.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

_request: ContextVar[str] = ContextVar("request", default="")
_account: ContextVar[str] = ContextVar("account", default="")
KEY = "request_id"
"""Where the id travels in a REQUEST frame's body."""
_process: list[str] = [""]
_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,64}", re.ASCII)


def new_id() -> str:
    return secrets.token_hex(8)


def is_id(given: str) -> bool:
    """Whether somebody else's request id may stand in our log and in a header."""
    return _ID.fullmatch(given) is not None


def begin(request: str, account: str = "") -> None:
    """This greenlet works for another request from now on."""
    _request.set(request)
    _account.set(account)


def of_account(account: str) -> None:
    """The request is this account's."""
    _account.set(account)


def of_process(account: str) -> None:
    """All of this process is this account's."""
    _process[0] = account


def request() -> str:
    return _request.get()


def account() -> str:
    return _process[0] or _account.get()
