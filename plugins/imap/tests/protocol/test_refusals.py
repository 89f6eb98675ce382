"""What refusals of real servers mean (wishes 12, 19)."""

from __future__ import annotations

import pytest
from jmapplug_imap.protocol.refusals import advice, code_of, only_oauth


@pytest.mark.parametrize(
    ("verb", "code", "text", "means"),
    [
        ("EXAMINE", "LIMIT", "SELECT Rate limit hit.", "throttled"),  # Yahoo
        ("AUTHENTICATE", "LIMIT", "LOGIN Rate limit hit", "throttled"),
        ("UID FETCH", None, "Request is throttled. Suggested Backoff Time: 178755 milliseconds", "throttled"),  # 365
        ("UID FETCH", "THROTTLED", "slow down", "throttled"),
        ("LOGIN", "ALERT", "Too many simultaneous connections. (Failure)", "throttled"),  # Gmail
        ("SELECT", "OVERQUOTA", "Account exceeded command or bandwidth limits. (Failure)", "throttled"),  # Gmail
        ("", None, "Maximum number of connections from user+IP exceeded (mail_max_userip_connections=1)", "throttled"),
        ("", "UNAVAILABLE", "Too many concurrent connections", "throttled"),
        ("LOGIN", "LIMIT", "no", "throttled"),
        # LIMIT of the thing itself: so many flags, so many folders (RFC 5530 §3).
        ("UID STORE", "LIMIT", "Too many flags in mailbox", "limit"),
        ("CREATE", "LIMIT", "Too many mailboxes", "limit"),
        ("APPEND", "LIMIT", "no", "limit"),
        ("APPEND", "OVERQUOTA", "Quota exceeded (mailbox for user is full)", "overquota"),
        ("LOGIN", "AUTHENTICATIONFAILED", "Temporarily wrong, try again later", "authenticationfailed"),
        ("LOGIN", None, "Invalid credentials", None),
        ("LOGIN", "ALERT", "Invalid credentials (Failure)", "alert"),
        ("AUTHENTICATE", None, "Temporary authentication failure.", "unavailable"),
        ("LOGIN", None, "Server busy, please try again later", "unavailable"),
        ("UID FETCH", None, "Internal error occurred", None),
        ("UID FETCH", "SERVERBUG", "Internal error occurred", "serverbug"),
        ("EXAMINE", None, "Mailbox was deleted under us (0.001 + 0.000 secs).", "serverbug"),  # Dovecot
        ("EXAMINE", "NONEXISTENT", "Mailbox was deleted under us", "nonexistent"),
    ],
)
def test_the_words_count_where_the_code_leaves_it_open(verb: str, code: str | None, text: str, means: str) -> None:
    assert code_of(verb, code, text) == means


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AUTHENTICATE failed: basic authentication is disabled.", "app password"),
        ("LOGIN failed. BasicAuthBlocked", "app password"),
        ("Application-specific password required: https://support.example.com/185833 (Failure)", "app password"),
        ("Please log in via your web browser: https://support.example.com/78754 (Failure)", "web page"),
        ("Your account is not enabled for IMAP use. IMAP access is disabled for your domain.", "switch it on"),
    ],
)
def test_a_refused_log_in_says_what_to_do(text: str, words: str) -> None:
    """Wish 19."""
    assert words in (advice(text) or "")


def test_an_ordinary_wrong_password_has_no_advice() -> None:
    assert advice("Invalid credentials (Failure)") is None
    assert advice("Authentication failed.") is None


@pytest.mark.parametrize("text", ["Invalid credentials (Failure)", "AUTHENTICATE failed: modern auth", ""])
def test_a_token_that_is_refused_has_an_advice_of_its_own(text: str) -> None:
    """Wish 19."""
    words = advice(text, oauth=True) or ""
    assert "check the user name" in words and "password" not in words
    assert "switch it on" in (advice("IMAP access is disabled for your domain.", oauth=True) or "")


def test_a_server_with_nothing_but_oauth_says_so() -> None:
    """Wish 19."""
    words = only_oauth(frozenset({"IMAP4REV1", "AUTH=XOAUTH2", "LOGINDISABLED"})) or ""
    assert "app password" in words and "oauthRefreshToken" in words
    assert only_oauth(frozenset({"IMAP4REV1", "LOGINDISABLED"})) is None
