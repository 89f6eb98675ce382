"""pymap on maildir folders: an IMAP server from PyPI, run as a child process on loopback.

Its users live in files in the forms of passwd(5) and shadow(5) at the top of its folder.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

HOST = "127.0.0.1"
ROUNDS = 1000  # a local toy: log-ins should be quick


def add_user(folder: Path, name: str, password: str) -> None:
    """Make the account ``name``, its mail in the folder of that name."""
    from pysasl.hashing import BuiltinHash

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "pymap-etc-passwd", "a") as users, open(folder / "pymap-etc-shadow", "a") as secrets:
        users.write(f"{name}:x::::{name}:\n")
        secrets.write(f"{name}:{BuiltinHash(rounds=ROUNDS).hash(password)}:::::::\n")


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the server; returns once it greets. Raises RuntimeError when it does not within 20 s."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "jmapplug.demo.imap_server",
        "--no-tls",
        "--no-service",
        "managesieve",
        "--no-service",
        "admin",
    ]
    command += ["--host", HOST, "--port", str(port), "maildir", str(folder)]
    log = open(folder / "log", "ab")  # noqa: SIM115 - the child keeps it
    process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not greets(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the demo IMAP server did not start; see {folder / 'log'}")
        time.sleep(0.05)
    return process


def greets(port: int) -> bool:
    """Whether a server on this port accepts and says something."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False
