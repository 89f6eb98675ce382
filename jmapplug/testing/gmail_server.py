"""A small IMAP server that behaves like Gmail (``gmail_store``), because Gmail cannot be installed.

A child process: ``python -m jmapplug.testing.gmail_server --port N [--no-dedupe] [--expunge archive|trash|delete]
[--hide CAPABILITY …]``. Any user name is an account of its own; the password is :data:`PASSWORD`. No PREVIEW, QRESYNC,
NOTIFY, MULTIAPPEND, SORT, OBJECTID, as at Gmail; no COMPRESS, QUOTA, UTF8=ACCEPT, because they are not written.

``--log FILE`` keeps every command's line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socketserver
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from jmapplug.testing.gmail_connection import PASSWORD, Connection
from jmapplug.testing.gmail_store import ARCHIVE, FOR_GOOD, TO_TRASH, Account
from jmapplug.testing.imap_server import ImapServer
from jmapplug.testing.ports import HOST, free_ports, greets, stop, wait_until


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 64

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self._accounts: dict[str, Account] = {}
        self._lock = threading.Lock()
        super().__init__((HOST, options.port), Connection)

    def account(self, user: str) -> Account:
        with self._lock:
            if user not in self._accounts:
                self._accounts[user] = Account(not self.options.no_dedupe, self.options.expunge)
            return self._accounts[user]

    def shown(self, capabilities: str) -> str:
        return " ".join(word for word in capabilities.split() if word not in self.options.hide)

    def note(self, command: bytes) -> None:
        if self.options.log:
            with self._lock, open(self.options.log, "ab") as file:
                file.write(command.split(b"\r\n")[0] + b"\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jmapplug.testing.gmail_server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--no-dedupe", action="store_true", help="two messages of one Message-ID are two")
    parser.add_argument("--expunge", choices=(ARCHIVE, TO_TRASH, FOR_GOOD), default=ARCHIVE)
    parser.add_argument("--hide", action="append", default=[])
    parser.add_argument("--log", type=Path)
    return parser


@dataclass(slots=True)
class Gmail(ImapServer):
    """A running server; :func:`start` makes one."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path | None = None
    host: str = HOST
    password: str = PASSWORD
    _names: count[int] = field(default_factory=lambda: count(1))

    def new_user(self) -> str:
        """A fresh account's login name."""
        return f"gm{os.getpid()}x{next(self._names)}@gmail.example"

    @property
    def commands(self) -> list[str]:
        """What all clients sent so far (``--log``)."""
        return self.log.read_text("latin-1").splitlines() if self.log else []

    def stop(self) -> None:
        stop(self.process)


def start(*arguments: str, log: Path | None = None) -> Gmail:
    """Start a server as a child process; ``arguments`` as on the command line."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "jmapplug.testing.gmail_server", "--port", str(port), *arguments]
    process = subprocess.Popen([*command, *(["--log", str(log)] if log else [])], stdin=subprocess.DEVNULL)
    wait_until(lambda: greets(port), "the Gmail of the tests greets")
    return Gmail(process, port, log)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        Server(_parser().parse_args()).serve_forever()
