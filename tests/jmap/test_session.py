from __future__ import annotations

from typing import Any

from jmapplug.jmap.session import SessionAccount, session_object

CORE, MAIL, CONTACTS = (f"urn:ietf:params:jmap:{name}" for name in ("core", "mail", "contacts"))
ONE = SessionAccount("A1", "anna@example.com", True, False, {MAIL: {"maxMailboxDepth": None}})
TWO = SessionAccount("A2", "work@example.com", True, True, {MAIL: {}, CONTACTS: {}})
SHARED = SessionAccount("A3", "team@example.com", False, False, {MAIL: {}, CONTACTS: {}})


def session(*accounts: SessionAccount, **changed: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": "anna@example.com",
        "primary": "A1",
        "capabilities": {CORE: {"maxCallsInRequest": 64}, MAIL: {}, CONTACTS: {}},
        "base_url": "https://mail.example.com/proxy",
        "event_source_url": "https://mail.example.com/proxy/eventsource?types={types}&closeafter={closeafter}&ping={ping}",
    }
    return session_object(accounts=accounts or (ONE, TWO), **{**options, **changed})


def test_a_session_has_every_member_of_rfc_8620() -> None:
    found = session(ONE)
    state = found.pop("state")
    assert isinstance(state, str) and 0 < len(state) <= 32
    assert found == {
        "capabilities": {CORE: {"maxCallsInRequest": 64}, MAIL: {}, CONTACTS: {}},
        "accounts": {
            "A1": {
                "name": "anna@example.com",
                "isPersonal": True,
                "isReadOnly": False,
                "accountCapabilities": {MAIL: {"maxMailboxDepth": None}},
            }
        },
        "primaryAccounts": {MAIL: "A1"},
        "username": "anna@example.com",
        "apiUrl": "https://mail.example.com/proxy/jmap",
        "downloadUrl": "https://mail.example.com/proxy/raw/{accountId}/{blobId}/{name}?type={type}",
        "uploadUrl": "https://mail.example.com/proxy/upload/{accountId}/",
        "eventSourceUrl": "https://mail.example.com/proxy/eventsource"
        "?types={types}&closeafter={closeafter}&ping={ping}",
    }


def test_a_base_url_may_end_in_a_slash() -> None:
    assert session(base_url="https://x.example/")["apiUrl"] == "https://x.example/jmap"


def test_the_account_logged_in_with_is_primary_for_what_it_has() -> None:
    assert session(ONE, TWO)["primaryAccounts"] == {MAIL: "A1", CONTACTS: "A2"}
    assert session(ONE, TWO, primary="A2")["primaryAccounts"] == {MAIL: "A2", CONTACTS: "A2"}


def test_an_account_of_somebody_else_is_never_primary() -> None:
    assert session(SHARED, ONE)["primaryAccounts"] == {MAIL: "A1"}
    assert session(SHARED, primary="A3")["primaryAccounts"] == {}


def test_core_and_unannounced_capabilities_have_no_primary_account() -> None:
    odd = SessionAccount("A1", "n", True, False, {CORE: {}, "urn:x": {}})
    assert session(odd)["primaryAccounts"] == {}


def test_the_state_stays_while_nothing_changes_and_a_new_ticket_is_no_change() -> None:
    assert session()["state"] == session()["state"]
    assert session(event_source_url="https://x/?ticket=2&{types}{closeafter}{ping}")["state"] == session()["state"]


def test_the_url_of_the_websocket_is_in_its_capability_and_its_ticket_is_no_change() -> None:
    urn = "urn:ietf:params:jmap:websocket"
    offered = {CORE: {"maxCallsInRequest": 64}, urn: {"supportsPush": True}}
    one, two = (session(capabilities=offered, web_socket_url=f"wss://x/ws?ticket={number}") for number in "12")
    assert one["capabilities"][urn] == {"url": "wss://x/ws?ticket=1", "supportsPush": True}
    assert one["state"] == two["state"]
    assert offered[urn] == {"supportsPush": True}
    assert urn not in session(web_socket_url="wss://x/ws")["capabilities"]


def test_the_order_of_members_is_no_change() -> None:
    turned = {CONTACTS: {}, MAIL: {}, CORE: {"maxCallsInRequest": 64}}
    assert session(capabilities=turned)["state"] == session()["state"]
    assert session(TWO, ONE)["state"] == session(ONE, TWO)["state"]


def test_the_state_changes_with_every_other_member() -> None:
    renamed = SessionAccount("A1", "other", True, False, ONE.capabilities)
    shut = SessionAccount("A1", ONE.name, True, True, ONE.capabilities)
    poorer = SessionAccount("A1", ONE.name, True, False, {})
    states = {
        each["state"]
        for each in (
            session(ONE),
            session(ONE, TWO),
            session(renamed),
            session(shut),
            session(poorer),
            session(ONE, username="other"),
            session(ONE, base_url="https://other.example"),
            session(ONE, capabilities={CORE: {"maxCallsInRequest": 65}, MAIL: {}, CONTACTS: {}}),
            session(ONE, TWO, primary="A2"),
        )
    }
    assert len(states) == 9
