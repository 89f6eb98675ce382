"""The errors that JMAP itself knows, as values that the two edges turn into answers."""

from __future__ import annotations

from typing import Any


class RequestError(Exception):
    """The whole Request is refused: answered as problem details (RFC 7807) with an HTTP status. RFC 8620 §3.6.1.

    ``retry_after``: seconds after which another try may do better, where the status is 429.
    """

    def __init__(
        self, type_: str, detail: str, *, status: int = 400, limit: str | None = None, retry_after: int = 1
    ) -> None:
        super().__init__(detail)
        self.type = f"urn:ietf:params:jmap:error:{type_}"
        self.detail = detail
        self.status = status
        self.limit = limit
        self.retry_after = retry_after

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"type": self.type, "status": self.status, "detail": self.detail}
        if self.limit is not None:
            body["limit"] = self.limit
        return body


class MethodError(Exception):
    """One method call fails: answered as ``["error", {type, …}, callId]``. RFC 8620 §3.6.2."""

    def __init__(self, type_: str, description: str | None = None, **more: Any) -> None:
        super().__init__(description or type_)
        self.type = type_
        self.description = description
        self.more = more

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"type": self.type}
        if self.description:
            body["description"] = self.description
        return body | self.more


def invalid_arguments(description: str, *arguments: str) -> MethodError:
    """RFC 8620 §3.6.2 invalidArguments; ``arguments`` names the culprits."""
    more: dict[str, Any] = {"arguments": list(arguments)} if arguments else {}
    return MethodError("invalidArguments", description, **more)


class SetError(Exception):
    """One record of a /set, /copy or /import fails (RFC 8620 §5.3)."""

    def __init__(
        self, type_: str, description: str | None = None, properties: list[str] | None = None, **more: Any
    ) -> None:
        super().__init__(description or type_)
        self.type = type_
        self.description = description
        self.properties = properties
        self.more = more

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"type": self.type}
        if self.description:
            body["description"] = self.description
        if self.properties is not None:
            body["properties"] = self.properties
        return body | self.more
