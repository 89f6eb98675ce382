"""What the mail capability declares (RFC 8621 §1.3)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jmapplug import plugins
from jmapplug.capabilities.mail import register_capabilities
from jmapplug.capabilities.mail.declaration import MAIL, URN, service
from jmapplug.capabilities.mail.service import MailService
from jmapplug.hookspecs import AccountInfo
from jmapplug.jmap.methods import Limits


def info(*offers: str, read_only: bool = True) -> AccountInfo:
    return AccountInfo("acc", "a@example.org", "imap", frozenset(offers), read_only)


def test_the_plugin_declares_every_reading_method_of_the_rfc() -> None:
    assert register_capabilities() == [MAIL]
    names = {method.name for method in MAIL.methods if not method.writes}
    assert names == {
        "Mailbox/get",
        "Mailbox/changes",
        "Mailbox/query",
        "Mailbox/queryChanges",
        "Thread/get",
        "Thread/changes",
        "Email/get",
        "Email/changes",
        "Email/query",
        "Email/queryChanges",
        "Email/parse",
        "SearchSnippet/get",
    }
    assert {method.capability for method in MAIL.methods} == {URN}


@pytest.mark.parametrize("name", ["Mailbox/set", "Email/set", "Email/import", "Email/copy"])
def test_a_writing_method_is_never_run_twice(name: str) -> None:
    """mail-rules 28."""
    (method,) = (method for method in MAIL.methods if method.name == name)
    assert method.writes and not method.retry


def test_the_account_object_has_every_member_of_the_rfc() -> None:
    value = MAIL.account_value(info("mail"))
    assert value is not None
    assert value["maxMailboxesPerEmail"] is None and value["maxMailboxDepth"] is None
    assert value["maxSizeMailboxName"] >= 100 and value["maxSizeAttachmentsPerEmail"] > 0
    assert value["mayCreateTopLevelMailbox"] is False
    assert set(value["emailQuerySortOptions"]) == {
        "receivedAt",
        "size",
        "sentAt",
        "from",
        "to",
        "subject",
        "hasKeyword",
        "allInThreadHaveKeyword",
        "someInThreadHaveKeyword",
    }
    assert MAIL.server_value(Limits()) == {}


def test_an_account_whose_upstream_has_no_mail_has_no_mail_capability() -> None:
    assert MAIL.account_value(info("contacts")) is None
    assert MAIL.account_value(info()) is not None, "not yet told: it is being set up"


def test_the_service_runs_where_there_is_mail() -> None:
    def account(*offers: str) -> Any:
        return SimpleNamespace(offers=lambda: list(offers), store=SimpleNamespace(on_change=None), publish=None)

    assert service(account()) is None
    assert isinstance(service(account("mail")), MailService)


def test_the_capability_is_built_in() -> None:
    found = plugins.build(found=())
    assert found.capabilities[URN] is MAIL
    assert {"m", "p", "f"} <= found.blobs.keys()
    assert {"Email", "Mailbox", "Thread", "EmailDelivery"} <= found.types
