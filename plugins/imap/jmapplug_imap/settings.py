"""What an IMAP account is told to us: the fields of ``POST /api/accounts`` under their names in the management API."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

# Host and login names never hold blanks or control characters: they end up in commands, logs and TLS's SNI.
# RFC 1035 §2.3.4: labels of 63; a look-up of others is a traceback of gevent's in the log, again at every connection.
_LABEL = r"[^\s\x00-\x1f\x7f/@.]{1,63}"
_Host = Annotated[str, msgspec.Meta(max_length=255, pattern=rf"\A(?:{_LABEL}(?:\.{_LABEL})*\.?)?\Z")]
_Login = Annotated[str, msgspec.Meta(max_length=1024, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
_Password = Annotated[str, msgspec.Meta(max_length=65536, pattern=r"\A[^\x00\r\n]*\Z")]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_PortOrNone = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_Url = Annotated[str, msgspec.Meta(max_length=2048, pattern=r"\A(https?://[^\s\x00-\x1f\x7f]+)?\Z")]
_TokenUrl = Annotated[
    str,
    # The refresh token goes there: TLS, or our own machine. No "@": nobody's name or password.
    msgspec.Meta(
        max_length=2048,
        pattern=r"\A((https://[^\s\x00-\x1f\x7f/?#@]+|http://(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?)"
        r"(/[^\s\x00-\x1f\x7f#]*)?)?\Z",
    ),
]
_Pem = Annotated[str, msgspec.Meta(max_length=1_000_000, pattern=r"\A[^\x00]*\Z")]
_Sender = Annotated[str, msgspec.Meta(max_length=320, pattern=r"\A[^\s\x00-\x1f\x7f@]+@[^\s\x00-\x1f\x7f@]+\Z")]

PLAIN: Final = 0
TLS: Final = 2
STARTTLS: Final = 3
Security = Literal[0, 1, 2, 3]
"""The SSL numbers of the management API: 0 (or 1) plain, 2 TLS from the first byte, 3 STARTTLS."""

SECRETS = frozenset({"password", "smtpPassword", "oauthClientSecret", "oauthRefreshToken"})
PUBLIC = ("imapHost", "imapPort")


class ImapSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """All fields may be left out. ``imapCA`` is a PEM text, or the path of a PEM file, that signs the IMAP server.

    ``None`` and ``""`` both mean "not given". ``username`` defaults to the account's e-mail address. ManageSieve takes
    the same user name, password and CA; without ``sieveHost`` it is looked for on ``imapHost``, ``sievePort`` 0: never.
    Without ``smtpHost`` the account cannot send; user name, password and CA of SMTP default to those of IMAP.
    ``sendAs``: addresses, or ``*@domain``, that may be sent from besides the account's own.

    With ``oauthRefreshToken`` the account logs in with OAuth, at ``oauthTokenUrl`` as ``oauthClientId``, and needs no
    password; SMTP does so too unless it has ``smtpPassword``, and ManageSieve where its server offers that.
    """

    username: _Login | None = None
    password: _Password | None = None
    imapHost: _Host | None = None
    imapPort: _Port = 993
    imapSSL: Security = TLS
    imapCA: _Pem | None = None
    smtpHost: _Host | None = None
    smtpPort: _Port = 587
    smtpSSL: Security = STARTTLS
    smtpUsername: _Login | None = None
    smtpPassword: _Password | None = None
    smtpCA: _Pem | None = None
    sendAs: Annotated[tuple[_Sender, ...], msgspec.Meta(max_length=1000)] = ()
    sieveHost: _Host | None = None
    sievePort: _PortOrNone = 4190
    sieveSSL: Security = STARTTLS
    oauthTokenUrl: _TokenUrl | None = None
    oauthClientId: _Login | None = None
    oauthClientSecret: _Password | None = None
    oauthRefreshToken: _Password | None = None
    oauthScope: _Login | None = None
    caldavURL: _Url | None = None
    carddavURL: _Url | None = None

    def __repr__(self) -> str:
        """Never shows a secret (it would reach logs and error pages)."""
        return f"ImapSettings({self.username!r}, {self.imapHost!r}:{self.imapPort})"

    @property
    def imap_security(self) -> int:
        """``imapSSL`` with its synonym folded: PLAIN, TLS or STARTTLS."""
        return PLAIN if self.imapSSL == 1 else self.imapSSL

    @property
    def smtp_security(self) -> int:
        """``smtpSSL`` in the same way."""
        return PLAIN if self.smtpSSL == 1 else self.smtpSSL

    @property
    def sieve_security(self) -> int:
        """``sieveSSL`` in the same way."""
        return PLAIN if self.sieveSSL == 1 else self.sieveSSL

    @property
    def smtp_oauth(self) -> bool:
        """Whether sending logs in with OAuth."""
        return bool(self.oauthRefreshToken and not self.smtpPassword)
