"""A server whose lists of a folder are not whole, or whose structures are not true (wish 21).

What is there stays in sight, under its id, and is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from refusing import Refusing
from scene import Scene, message

HIDDEN = re.compile(rb" (CONDSTORE|QRESYNC|NOTIFY|ESEARCH|LIST-STATUS)(?=[ \]\r])")
DAMAGES: dict[str, tuple[bytes, bytes]] = {
    "unreadable flags": (rb"^(\* 2 FETCH \(.*)FLAGS \([^)]*\)", rb"\1FLAGS (("),
    "nothing readable": (rb"^\* 2 FETCH .*\r\n", b"* 2 FETCH (FLAGS (\r\n"),
    "ends early": (rb"^\* [23] FETCH .*\r\n", b""),
}


@pytest.fixture
def scene(dove: Scene) -> Scene:
    return dove


def saying(pattern: bytes, by: bytes, plain: bool) -> Callable[[bytes], bytes]:
    """Rows of FLAGS alone are said otherwise; those of whole messages are not."""

    def said(line: bytes) -> bytes:
        line = HIDDEN.sub(b"", line) if plain and b"CAPABILITY" in line else line
        return line if pattern == b"" or b"BODY" in line else re.sub(pattern, by, line)

    return said


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_message_that_a_list_leaves_out_stays_in_sight(scene: Scene, relay: Refusing, damage: str) -> None:
    relay.change = saying(b"", b"", True)
    scene.append("Inbox", *[message(f"number {at}") for at in range(3)])
    scene.flag("Inbox", "2", "\\Flagged", "blue")
    before = scene.begin(imapPort=relay.port)
    relay.change = saying(*DAMAGES[damage], True)
    scene.append("Inbox", message("news"))
    for _ in range(2):
        view = scene.sync()
        assert before.emails.keys() < view.emails.keys() and view.by_subject().keys() >= {"news", "number 1"}
        assert view.emails[before.by_subject()["number 1"]] == before.emails[before.by_subject()["number 1"]]
    scene.expunge("Inbox", "2")
    relay.change = saying(b"", b"", True)
    assert set(scene.agree().by_subject()) == {"number 0", "number 2", "news"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_first_list_that_is_not_whole_comes_whole_later(scene: Scene, relay: Refusing, damage: str) -> None:
    scene.append("Inbox", *[message(f"number {at}") for at in range(3)])
    scene.flag("Inbox", "2", "\\Flagged")
    relay.change = saying(*DAMAGES[damage], False)
    scene.client = scene.proxy.add(scene.account, scene.server, scene.user, imapPort=relay.port)
    scene.proxy.settled(scene.account)
    scene.look()
    relay.change = saying(b"", b"", False)
    assert set(scene.agree().by_subject()) == {"number 0", "number 1", "number 2"}


def test_a_structure_that_is_not_true_is_found_out_by_what_it_leads_to(scene: Scene, relay: Refusing) -> None:
    told = rb'BODYSTRUCTURE ("TEXT" "PLAIN" NIL NIL NIL "7BIT" 12 1)'
    relay.change = lambda line: re.sub(rb"BODYSTRUCTURE \(.*\)(?= BODY\[)", told, line)
    parts = [
        "--m",
        "Content-Type: text/plain",
        "",
        "The text.",
        "--m",
        "Content-Type: application/pdf",
        "",
        "PDF",
        "--m--",
    ]
    fields = ["MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=m"]
    scene.append("Inbox", message("mixed", *fields, body="\r\n".join(parts)))
    [ident] = scene.begin(imapPort=relay.port).emails
    wanted = {"properties": ["bodyValues", "attachments"], "fetchTextBodyValues": True}
    for _ in range(2):
        [email] = scene.jmap.call("Email/get", ids=[ident], **wanted)["list"]
        assert [value["value"] for value in email["bodyValues"].values()] == ["The text."]
        [file] = email["attachments"]
        assert (file["type"], file["size"]) == ("application/pdf", 3)
