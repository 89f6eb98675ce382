"""The settings of an IMAP account as the management API gives them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from jmapplug_imap.settings import PUBLIC, SECRETS, ImapSettings


def test_every_field_may_be_left_out_and_has_the_documented_default() -> None:
    empty = msgspec.convert({}, ImapSettings)
    assert (empty.imapPort, empty.imapSSL, empty.smtpPort, empty.smtpSSL) == (993, 2, 587, 3)
    assert empty.imapHost is empty.username is empty.password is empty.caldavURL is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"imapPort": "993"},
        {"imapPort": 0},
        {"imapPort": 65536},
        {"imapPort": True},
        {"imapSSL": 4},
        {"imapHost": 5},
        {"imapHost": "a b"},
        {"imapHost": "a\r\nb"},
        {"imapHost": "host/path"},
        {"imapHost": "h" * 64},
        {"imapHost": "h." * 128},
        {"imapHost": "a..b"},
        {"imapHost": ".a"},
        {"username": "a\r\nx LOGOUT"},
        {"username": ["a"]},
        {"password": "a\x00b"},
        {"caldavURL": "ftp://example.org"},
        {"carddavURL": "javascript:alert(1)"},
        {"imapHost": "host\n"},
        {"oauthTokenUrl": "http://oauth.example.com/token"},
        {"oauthTokenUrl": "http://127.0.0.1@oauth.example.com/token"},
        {"oauthTokenUrl": "http://127.0.0.1.example.com/token"},
        {"oauthTokenUrl": "https://me:pw@oauth.example.com/token"},
        {"oauthTokenUrl": "https://oauth.example.com/to ken"},
        {"oauthRefreshToken": "a\r\nb"},
    ],
)
def test_a_wrong_type_or_value_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, ImapSettings)


def test_one_is_a_synonym_of_plain() -> None:
    assert [ImapSettings(imapSSL=n).imap_security for n in (0, 1, 2, 3)] == [0, 0, 2, 3]


def test_the_password_is_a_secret_and_never_printed() -> None:
    settings = ImapSettings(username="ann", imapHost="h", **dict.fromkeys(SECRETS, "hunter2"))
    assert "hunter2" not in repr(settings) + str(settings) + f"{settings}"
    assert {"password", "smtpPassword", "oauthClientSecret", "oauthRefreshToken"} == SECRETS
    assert not SECRETS & set(PUBLIC)


@pytest.mark.parametrize(
    "url",
    [
        "https://oauth2.example.com/token",
        "https://h:8443/a?b=c",
        "http://localhost:1/t",
        "http://127.0.0.1:99",
        "",
        None,
        "http://[::1]:80/t",
    ],
)
def test_a_refresh_token_goes_over_tls_or_stays_on_this_machine(url: str | None) -> None:
    assert msgspec.convert({"oauthTokenUrl": url}, ImapSettings).oauthTokenUrl == url
