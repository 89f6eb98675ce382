"""pymap as a server with OBJECTID and without CONDSTORE, QRESYNC and LIST-STATUS."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from jmapplug.demo import mailserver
from jmapplug.testing.imap_server import ImapServer
from jmapplug.testing.ports import HOST, free_ports, stop

PASSWORD = "secret"


@dataclass(slots=True)
class Pymap(ImapServer):
    """A running server on a maildir folder."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    host: str = HOST
    password: str = PASSWORD
    _names: count[int] = field(default_factory=lambda: count(1))

    def new_user(self) -> str:
        """A fresh account's login name."""
        name = f"pymap{os.getpid()}x{next(self._names)}@example.org"
        mailserver.add_user(self.folder, name, self.password)
        return name

    def stop(self) -> None:
        stop(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


def start() -> Pymap:
    """A server in a fresh folder, on a free port."""
    folder = Path(tempfile.mkdtemp(prefix="jpp-"))
    (port,) = free_ports(1)
    return Pymap(mailserver.start(folder, port), folder, port)
