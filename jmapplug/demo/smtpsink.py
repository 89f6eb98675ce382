"""An SMTP server on loopback that delivers into the demo's IMAP server; a child process (it lives on asyncio)."""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import subprocess
import sys
from typing import Any

HOST = "127.0.0.1"


def start(port: int, imap_port: int, domain: str, password: str, names: frozenset[str]) -> subprocess.Popen[bytes]:
    """Start the sink; ``names`` are the local parts that exist."""
    arguments = [str(port), str(imap_port), domain, password, ",".join(sorted(names))]
    return subprocess.Popen([sys.executable, "-m", "jmapplug.demo.smtpsink", *arguments], stdin=subprocess.DEVNULL)


class Deliver:
    """aiosmtpd's handler: a recipient is checked at RCPT, the message is in every INBOX before DATA is answered."""

    def __init__(self, imap_port: int, domain: str, password: str, names: frozenset[str]) -> None:
        self.imap_port, self.domain, self.password, self.names = imap_port, domain, password, names

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        name, _, domain = address.rpartition("@")
        if domain.lower() == self.domain and name.lower() not in self.names:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        local = [each for each in envelope.rcpt_tos if each.lower().endswith("@" + self.domain)]
        for address in local:
            try:
                await asyncio.to_thread(self._append, address.lower(), envelope.content)
            except (OSError, imaplib.IMAP4.error):
                return "451 4.3.0 cannot deliver now"
        return "250 OK delivered"

    def _append(self, user: str, message: bytes) -> None:
        client = imaplib.IMAP4(HOST, self.imap_port, timeout=30)
        client.login(user, self.password)
        client.append("INBOX", "", "", message)
        client.logout()


async def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    from aiosmtpd.smtp import SMTP

    port, imap_port, domain, password, names = arguments
    handler = Deliver(int(imap_port), domain, password, frozenset(names.split(",")))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, hostname="localhost"), HOST, int(port))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1:]))
