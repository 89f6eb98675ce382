"""An SMTP submission server for tests: keeps what it takes, delivers by LMTP *before* it answers, fails on demand.

A child process (it lives on asyncio)::

    python -m jmapplug.testing.smtp_server --port N --outbox DIR [--lmtp HOST:PORT|/unix/path --domain example.org]
        [--certificate FILE --key FILE [--tls]] [--auth user:password …] [--size N] [--future-release SECONDS]
        [--without KEYWORD …] [--sent HOST:PORT:PASSWORD]

It is ready when it greets. Each message taken is ``DIR/<n>.eml`` and ``DIR/<n>.json`` (the second one last; see
:class:`Taken`). Addresses by their local part's beginning, at RCPT unless said:

===============  ====================================================================================================
``reject``       550 5.1.1
``policy``       550 5.7.1
``tempfail``     451 4.7.1 (``tempfail-once``: only the first time that it is named)
``cutbefore``    the connection is cut instead of an answer
``rejectdata``   554 5.7.1 to the end of DATA
``tempdata``     451 4.3.0 to the end of DATA
``cutafter``     the message is kept, then the connection is cut without an answer to DATA
``slow``         the message is kept; ``DIR/held`` appears, and the answer waits until ``DIR/release`` is there
===============  ====================================================================================================

A sender that begins with ``rejectfrom`` gets 553 5.7.1. A ``DIR/down`` that exists makes it greet with 421.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import imaplib
import json
import smtplib
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmapplug.testing.ports import HOST, free_ports, greets, stop, wait_until

DSN = {"RET", "ENVID", "NOTIFY", "ORCPT"}
HOLD = {"HOLDFOR", "HOLDUNTIL"}
AT_RCPT = {
    "rejectdata": "",
    "reject": "550 5.1.1 No such user here",
    "policy": "550 5.7.1 Not from you",
    "tempfail": "451 4.7.1 Come back later",
}
AT_DATA = {"rejectdata": "554 5.7.1 This looks like spam", "tempdata": "451 4.3.0 The disk is full at the moment"}


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that the server took: its envelope (parameters in upper case) and its octets."""

    mail_from: str
    mail_options: list[str]
    rcpt_tos: list[str]
    rcpt_options: list[str]
    tls: bool
    user: str | None
    content: bytes


class Handler:
    """aiosmtpd's hooks; ``options`` are the command line's."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.outbox: Path = options.outbox
        self.count = len(list(self.outbox.glob("*.json")))
        self.named: set[str] = set()

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]) -> Any:
        session.host_name = hostname
        extra = ["PIPELINING", "DSN", "ENHANCEDSTATUSCODES"]
        if self.options.future_release:
            extra.append(f"FUTURERELEASE {self.options.future_release} 2099-12-31T23:59:59Z")
        without = {each.upper() for each in self.options.without}
        rows = [
            row for row in [*responses[1:-1], *(f"250-{each}" for each in extra)] if row[4:].split()[0] not in without
        ]
        return [responses[0], *rows, responses[-1]]

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address.lower().startswith("rejectfrom"):
            return "553 5.7.1 You are not that sender"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        local = address.lower()
        if local.startswith("cutbefore"):
            server.transport.abort()
            return "421 4.3.0 gone"
        refusal = next((text for start, text in AT_RCPT.items() if local.startswith(start)), "")
        if local.startswith("tempfail-once") and local in self.named:
            refusal = ""
        self.named.add(local)
        if refusal:
            return refusal
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        locals_ = [address.lower() for address in envelope.rcpt_tos]
        for start, text in AT_DATA.items():
            if any(local.startswith(start) for local in locals_):
                return text
        try:
            await asyncio.to_thread(self.deliver, envelope)
        except (OSError, smtplib.SMTPException) as error:
            return f"451 4.3.0 cannot deliver now: {type(error).__name__}"
        self.keep(session, envelope)
        if self.options.sent:
            await asyncio.to_thread(self.store_sent, envelope)
        if any(local.startswith("cutafter") for local in locals_):
            server.transport.abort()
        if any(local.startswith("slow") for local in locals_):
            (self.outbox / "held").touch()
            while not (self.outbox / "release").exists():
                await asyncio.sleep(0.01)
        return "250 2.0.0 Ok: queued"

    def keep(self, session: Any, envelope: Any) -> None:
        self.count += 1
        name = self.outbox / f"{self.count:05}"
        facts = {
            "mail_from": "" if envelope.mail_from == "<>" else envelope.mail_from,
            "mail_options": envelope.mail_options,
            "rcpt_tos": envelope.rcpt_tos,
            "rcpt_options": envelope.rcpt_options,
            "tls": session.ssl is not None,
            "user": (session.auth_data.login.decode() if session.authenticated else None),
        }
        name.with_suffix(".eml").write_bytes(envelope.original_content)
        fresh = name.with_suffix(".new")
        fresh.write_text(json.dumps(facts))
        fresh.rename(name.with_suffix(".json"))

    def store_sent(self, envelope: Any) -> None:
        """Into the sender's Sent, as Gmail does with what is submitted."""
        host, port, password = self.options.sent.split(":")
        imap = imaplib.IMAP4(host, int(port), timeout=30)
        imap.login(envelope.mail_from, password)
        imap.append(
            '"[Gmail]/Sent Mail"', "(\\Seen)", imaplib.Time2Internaldate(time.time()), envelope.original_content
        )
        imap.logout()

    def deliver(self, envelope: Any) -> None:
        """Into the mail store, before anybody hears that it was taken."""
        domain = "@" + self.options.domain.lower()
        local = [address for address in envelope.rcpt_tos if address.lower().endswith(domain)]
        if not self.options.lmtp or not local:
            return
        host, _, port = self.options.lmtp.rpartition(":")
        with smtplib.LMTP(host or port, int(port) if host else 0, timeout=30) as lmtp:
            lmtp.sendmail("" if envelope.mail_from == "<>" else envelope.mail_from, local, envelope.original_content)


def _protocol(options: argparse.Namespace, handler: Handler) -> Any:
    from aiosmtpd.smtp import SMTP, AuthResult

    # RFC 4954 §5: Dovecot's Submission says AUTH=… in MAIL.
    known = {"AUTH"} | (set() if "DSN" in options.without else DSN) | (HOLD if options.future_release else set())
    users = dict(pair.split(":", 1) for pair in options.auth)

    class Server(SMTP):
        def _getparams(self, params: Sequence[str]) -> Any:
            return super()._getparams([each for each in params if each.partition("=")[0] not in known])

        def connection_made(self, transport: Any) -> None:
            if (handler.outbox / "down").exists():
                transport.write(b"421 4.3.2 Closed for today\r\n")
                transport.close()
                return
            super().connection_made(transport)

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        user, password = data.login.decode(), data.password.decode()
        right = password in (users.get(user), users.get("*"))
        return AuthResult(success=right, handled=False, auth_data=data)

    context = None
    if options.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate, options.key)

    def make() -> Any:
        return Server(
            handler, hostname="localhost", data_size_limit=options.size, timeout=300, authenticator=authenticate,
            enable_SMTPUTF8="SMTPUTF8" not in options.without, auth_required=bool(users), auth_require_tls=False,
            tls_context=None if options.tls else context,
        )  # fmt: skip

    return make, context if options.tls else None


async def main(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    handler = Handler(options)
    make, context = _protocol(options, handler)
    server = await asyncio.get_running_loop().create_server(make, HOST, options.port, ssl=context)
    async with server:
        await server.serve_forever()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jmapplug.testing.smtp_server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--outbox", type=Path, required=True)
    parser.add_argument("--lmtp", help="HOST:PORT, or a Unix socket's path")
    parser.add_argument("--sent", help="HOST:PORT:PASSWORD of an IMAP server that gets the sender's copy")
    parser.add_argument("--domain", default="example.org", help="its addresses are delivered by LMTP")
    parser.add_argument("--certificate", help="PEM; without --tls for STARTTLS")
    parser.add_argument("--key")
    parser.add_argument("--tls", action="store_true", help="TLS from the first octet")
    parser.add_argument("--auth", action="append", default=[], help="user:password (* for any user); then required")
    parser.add_argument("--size", type=int, default=50_000_000)
    parser.add_argument("--future-release", type=int, default=0, help="seconds that HOLDFOR takes")
    parser.add_argument("--without", action="append", default=[], help="an EHLO keyword that is not offered")
    return parser


@dataclass(slots=True)
class SmtpServer:
    """A running server; :func:`start` makes one. ``before``: of accounts whose server relays to it."""

    port: int
    outbox: Path
    process: subprocess.Popen[bytes]
    host: str = HOST
    before: dict[str, Any] | None = None

    @property
    def taken(self) -> list[Taken]:
        """Every message taken so far, in order."""
        return [
            Taken(**json.loads(each.read_text()), content=each.with_suffix(".eml").read_bytes())
            for each in sorted(self.outbox.glob("*.json"))
        ]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of an account that sends through this server, in clear, or through the one before it."""
        return self.before or {"smtpHost": self.host, "smtpPort": self.port, "smtpSSL": 0}

    def stop(self) -> None:
        stop(self.process)


def start(
    outbox: Path | None = None, *arguments: str, port: int | None = None, before: dict[str, Any] | None = None
) -> SmtpServer:
    """Start a server as a child process; ``arguments`` as on the command line, ``before`` as in :class:`SmtpServer`."""
    folder = outbox or Path(tempfile.mkdtemp(prefix="jpo-"))
    folder.mkdir(exist_ok=True)
    number = port or free_ports(1)[0]
    command = [sys.executable, "-m", "jmapplug.testing.smtp_server", "--port", str(number), "--outbox", str(folder)]
    log = open(folder / "log", "ab")  # noqa: SIM115 - the child keeps it
    process = subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    server = SmtpServer(number, folder, process, before=before)
    if "--tls" not in arguments:
        wait_until(lambda: greets(number), "the SMTP server greets")
    else:
        from jmapplug.testing.ports import accepts

        wait_until(lambda: accepts(number), "the SMTP server listens")
    return server


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(_parser().parse_args()))
