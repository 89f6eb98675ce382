"""What a refusal means: its response code (RFC 5530 §3), and what real servers say in words alone. Pure."""

from __future__ import annotations

import re

THROTTLED = "throttled"
"""Our own code: the server wants less of us for a while, whatever command it was."""
UNAVAILABLE = "unavailable"
SERVERBUG = "serverbug"
TEMPORARY_CODES = frozenset({UNAVAILABLE, "inuse", SERVERBUG, "limit", "expungeissued", THROTTLED})
"""Codes after which the same command may work later."""
WAIT_CODES = frozenset({UNAVAILABLE, "inuse", "limit", THROTTLED})
"""Codes that are answered by waiting: asking for less, or in another way, would be one command more and no help."""

# Codes that leave it to the text what is the matter; Gmail says OVERQUOTA when a day's octets are used up.
_VAGUE = frozenset({None, "alert", "limit", "overquota", UNAVAILABLE})
_THROTTLING = re.compile(
    r"too many (?:\w+ ){0,2}(?:connections|sessions|commands|requests|log-?ins)"
    r"|(?:maximum|allowed) number of (?:\w+ ){0,2}(?:connections|sessions)"
    r"|(?:connections?|sessions?) (?:limit|exceeded)|bandwidth limit|rate.?limit|throttl|backoff time",
    re.IGNORECASE,
)
_AWAY = re.compile(
    r"temporar(?:y|ily)|try (?:it )?again later|internal (?:server )?error|server (?:is )?busy|maintenance",
    re.IGNORECASE,
)
# Dovecot 2.3, to everything in a session that once saw the folder, for as long as it lasts; other sessions open it.
_LOST = re.compile(r"mailbox was deleted under us", re.IGNORECASE)
# RFC 5530 §3: LIMIT may speak of the thing itself (so many flags in a folder) where something is written.
_WRITING = ("STORE", "COPY", "MOVE", "CREATE", "RENAME", "SUBSCRIBE", "APPEND")
_LOGIN = ("LOGIN", "AUTHENTICATE")


def code_of(verb: str, code: str | None, text: str) -> str | None:
    """The code of a NO, BAD or BYE in lower case; THROTTLED, UNAVAILABLE, SERVERBUG also where only words say so.

    ``verb``: the command that was refused, "" for a BYE.
    """
    code = None if code is None else code.lower()
    if code in _VAGUE and _THROTTLING.search(text):
        return THROTTLED
    if code == "limit" and not verb.endswith(_WRITING):
        return THROTTLED
    # A log-in that failed without a code is a wrong password, unless the server says that it is not.
    if code in (None, "alert") and verb in _LOGIN and _AWAY.search(text):
        return UNAVAILABLE
    return SERVERBUG if code is None and _LOST.search(text) else code


_NO_PASSWORDS = (
    "This provider takes no ordinary password for IMAP. Make an app password in the provider's account settings and "
    "store that one, or store an OAuth refresh token (oauthRefreshToken, oauthTokenUrl, oauthClientId)"
)
_NOT_WITH_OAUTH = (
    "The mail server does not take the OAuth access token: check the user name, that the consent (oauthScope) covers "
    "what is used of IMAP, SMTP and ManageSieve, and that the provider allows it for this user"
)
_ADVICE = (
    (
        re.compile(
            r"basic ?auth\w*(?: \w+)* (?:disabled|blocked|not (?:allowed|supported|enabled))|basicauthblocked"
            r"|app(?:lication)?[- ]?(?:specific )?password|oauth|modern auth|less secure app",
            re.IGNORECASE,
        ),
        _NO_PASSWORDS,
    ),
    (
        re.compile(r"imap (?:access |use )?(?:is |has been )?(?:disabled|not enabled|turned off)", re.IGNORECASE),
        "IMAP is switched off for this account: switch it on in the provider's settings",
    ),
    (
        re.compile(r"web ?browser|web ?login|webalert|sign in (?:on|at|via)", re.IGNORECASE),
        "The provider wants to see this user on its web page first: log in there once",
    ),
)


def advice(text: str, oauth: bool = False) -> str | None:
    """What a person can do about a log-in that was refused with these words; None where nothing is known.

    ``oauth``: it was no password that was refused.
    """
    found = next((words for pattern, words in _ADVICE if pattern.search(text)), None)
    return _NOT_WITH_OAUTH if oauth and found in (None, _NO_PASSWORDS) else found


def only_oauth(capabilities: frozenset[str]) -> str | None:
    """The advice where a server offers nothing but OAuth."""
    return _NO_PASSWORDS if {"AUTH=XOAUTH2", "AUTH=OAUTHBEARER"} & capabilities else None
