"""One account on a real Dovecot for the tests of the front that only read."""

from __future__ import annotations

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import Client, Proxy

MESSAGE = b"""From: Ada <ada@example.com>\r
To: user@example.org\r
Subject: Hello\r
Date: Mon, 5 Jan 2026 10:00:00 +0000\r
Message-ID: <hello@example.com>\r
Content-Type: text/plain; charset=utf-8\r
\r
The quick brown fox.\r
"""


@pytest.fixture(scope="module")
def user(dovecot: Dovecot) -> str:
    name = dovecot.new_user()
    client = dovecot.imap(name)
    client.append("INBOX", "", "", MESSAGE)
    client.logout()
    return name


@pytest.fixture(scope="module")
def alice(proxy: Proxy, dovecot: Dovecot, user: str, request: pytest.FixtureRequest) -> Client:
    account = "alice-" + request.module.__name__.rpartition(".")[2].replace("_", "-")
    return proxy.add(account, dovecot, user)
