"""Composing over an account in memory, and reading the result by two parsers: ours and the standard library's."""

from __future__ import annotations

import email
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

from email_rig import Rig

from jmapplug.capabilities.mail import blobs
from jmapplug.capabilities.mail.compose import Composed, compose
from jmapplug.capabilities.mail.email_parse import email_parse
from jmapplug.jmap.methods import Call


class ComposeRig(Rig):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.account.blob = lambda blob_id: blobs.find(self.account, blob_id)
        self.account.email = "owner@account.example"
        self.created: dict[str, str] = {}

    def compose(self, **record: Any) -> Composed:
        call = Call("Email/set", "acc", self.account, self.account.limits, self.created, frozenset())
        return compose(call, {name.replace("__", ":"): value for name, value in record.items()})

    def octets(self, **record: Any) -> bytes:
        """The message. It must be clean for any record."""
        composed = self.compose(**record)
        octets = composed.path.read_bytes()
        composed.path.unlink()
        assert composed.size == len(octets)
        well_formed(octets)
        return octets

    def parsed(self, octets: bytes, *properties: str, **args: Any) -> dict[str, Any]:
        """The Email that our own parser sees."""
        blob_id = self.upload("message/rfc822", octets)
        args = {"fetchAllBodyValues": True, **args}
        reply = self.call(email_parse, blobIds=[blob_id], properties=list(properties) or None, **args)
        return cast(dict[str, Any], reply["parsed"][blob_id])

    def again(self, *properties: str, **record: Any) -> dict[str, Any]:
        """What a created Email reads back as."""
        return self.parsed(self.octets(**record), *properties)

    def leftovers(self) -> list[str]:
        return [path.name for path in self.store.blobs.parts.glob("new-*")]


def well_formed(octets: bytes) -> None:
    """CRLF line ends, no NUL, and a header in which every line is a field or a fold of at most 998 octets."""
    assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")
    assert b"\0" not in octets
    for line in octets.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        assert len(line) <= 998
        assert line.strip()
        assert line[:1] in b" \t" or b":" in line


def independent(octets: bytes) -> EmailMessage:
    """The standard library's reading; no part and no header field of it has a defect."""
    message = cast(EmailMessage, email.message_from_bytes(octets, policy=policy.default))
    for part in message.walk():
        assert part.defects == []
        for name, value in part.items():
            assert value.defects == (), (name, value)
    return message
