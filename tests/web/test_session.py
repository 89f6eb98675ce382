"""The Session and where clients find it (RFC 8620 §2)."""

from __future__ import annotations

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import Client, Http, Proxy

CORE = "urn:ietf:params:jmap:core"
MAIL = "urn:ietf:params:jmap:mail"


def test_the_session_has_every_field_of_the_rfc(alice: Client, user: str) -> None:
    session = alice.send("GET", "/session").json
    assert set(session) == {
        "capabilities", "accounts", "primaryAccounts", "username", "apiUrl", "downloadUrl", "uploadUrl",
        "eventSourceUrl", "state",
    }  # fmt: skip
    assert set(session["capabilities"][CORE]) == {
        "maxSizeUpload", "maxConcurrentUpload", "maxSizeRequest", "maxConcurrentRequests", "maxCallsInRequest",
        "maxObjectsInGet", "maxObjectsInSet", "collationAlgorithms",
    }  # fmt: skip
    assert session["capabilities"][CORE]["maxCallsInRequest"] == 64
    account = session["accounts"][alice.account]
    assert (account["name"], account["isPersonal"], account["isReadOnly"]) == (user, True, False)
    assert set(account["accountCapabilities"][MAIL]) == {
        "maxMailboxesPerEmail", "maxMailboxDepth", "maxSizeMailboxName", "maxSizeAttachmentsPerEmail",
        "emailQuerySortOptions", "mayCreateTopLevelMailbox",
    }  # fmt: skip
    assert session["primaryAccounts"] == dict.fromkeys(account["accountCapabilities"], alice.account)
    assert session["username"] == user


def test_its_urls_are_absolute_and_templates_name_their_variables(alice: Client, proxy: Proxy) -> None:
    session = alice.send("GET", "/session").json
    base = f"http://localhost:{proxy.port}"
    assert session["apiUrl"] == f"{base}/jmap"
    assert session["uploadUrl"] == base + "/upload/{accountId}/"
    assert session["downloadUrl"] == base + "/raw/{accountId}/{blobId}/{name}?type={type}"
    assert session["eventSourceUrl"].startswith(base + "/eventsource?")
    for variable in ("{types}", "{closeafter}", "{ping}"):
        assert variable in session["eventSourceUrl"]


def test_it_is_not_cached_and_its_etag_tells_its_state(alice: Client) -> None:
    reply = alice.send("GET", "/session")
    assert reply.headers["cache-control"] == "no-cache, no-store"
    assert reply.headers["etag"].startswith(f'"{reply.json["state"]}-')
    again = alice.send("GET", "/session", headers={"If-None-Match": reply.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


def test_its_state_is_the_responses_session_state_and_changes_with_the_pool(proxy: Proxy, dovecot: Dovecot) -> None:
    one = proxy.add("pool-one", dovecot, dovecot.new_user())
    before = one.send("GET", "/session").json["state"]
    body = {"using": [CORE], "methodCalls": [["Core/echo", {}, "0"]]}
    assert one.send("POST", "/jmap", body).json["sessionState"] == before
    proxy.add("pool-two", dovecot, dovecot.new_user(), pool="pool-one")
    after = one.send("GET", "/session").json
    assert set(after["accounts"]) == {"pool-one", "pool-two"}
    assert after["primaryAccounts"][MAIL] == "pool-one"
    assert after["state"] != before
    assert one.send("POST", "/jmap", body).json["sessionState"] == after["state"]


def test_well_known_redirects_for_good(proxy: Proxy) -> None:
    reply = proxy.http.send("GET", "/.well-known/jmap")
    assert (reply.status, reply.headers["location"]) == (301, f"http://localhost:{proxy.port}/session")


def test_well_known_is_the_session_itself_for_safari(alice: Client) -> None:
    """A client that would lose its Authorization header on the way (clients-and-wishes 6)."""
    asking = {"Accept": "application/json"}
    assert alice.send("GET", "/.well-known/jmap", headers=asking).json == alice.send("GET", "/session").json
    assert alice.send("GET", "/.well-known/jmap", headers={"Origin": "https://mail.example"}).status == 200


def test_a_cross_origin_request_without_credentials_is_401_with_cors_headers(proxy: Proxy) -> None:
    reply = proxy.http.send("GET", "/.well-known/jmap", headers={"Origin": "https://mail.example"})
    assert reply.status == 401
    assert reply.headers["access-control-allow-origin"] == "*"


def test_forwarded_headers_of_strangers_are_not_believed(alice: Client, proxy: Proxy) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    assert alice.send("GET", "/session", headers=forged).json["apiUrl"] == f"http://localhost:{proxy.port}/jmap"


def test_forwarded_headers_of_a_trusted_proxy_make_the_urls(dovecot: Dovecot) -> None:
    service = Proxy(JMAP_TRUSTED_PROXIES="127.0.0.0/8")
    try:
        client = service.add("alice", dovecot, dovecot.new_user())
        forwarded = {"X-Forwarded-Host": "mail.example", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/jmap"}
        session = client.send("GET", "/session", headers=forwarded).json
        assert session["apiUrl"] == "https://mail.example/jmap/jmap"
        dirty = {"X-Forwarded-Host": 'x"><script>', "X-Forwarded-Proto": "https"}
        assert client.send("GET", "/session", headers=dirty).json["apiUrl"].startswith("http://localhost")
    finally:
        service.stop()


def test_a_preflight_needs_no_credentials_on_any_url(proxy: Proxy) -> None:
    for path in ("/session", "/jmap", "/upload/x/", "/raw/x/y/z", "/eventsource", "/.well-known/jmap"):
        asked = {"Origin": "https://mail.example", "Access-Control-Request-Method": "POST"}
        reply = Http(proxy.port).send("OPTIONS", path, headers=asked)
        assert (path, reply.status, reply.headers["access-control-allow-origin"]) == (path, 204, "*")
        assert "Authorization" in reply.headers["access-control-allow-headers"]
