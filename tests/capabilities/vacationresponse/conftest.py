"""The rig of the sieve tests, real deliveries, and an SMTP server for what the mail server sends."""

import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "sieve"))

from sieve_rig import Rig, rig

from jmapplug.testing import smtp_server
from jmapplug.testing.smtp_server import SmtpServer

__all__ = ["rig"]
_numbers = count(1)


@pytest.fixture(scope="module")
def smtp(dovecot_sieve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpServer]:
    server = smtp_server.start(tmp_path_factory.mktemp("outbox"), port=dovecot_sieve.smtp_port)
    yield server
    server.stop()


@pytest.fixture
def arrive(rig: Rig, smtp: SmtpServer) -> Callable[..., bytes | None]:
    """Deliver a message from a fresh address by LMTP; the answer that was sent to it, None where none was.

    The server sends an answer before it says that the delivery is done: nothing has to be waited for.
    """

    def deliver(subject: str = "Hello", to: str | None = None) -> bytes | None:
        sender = f"friend{next(_numbers)}@example.com"
        rig.deliver(sender, subject, to or rig.user)
        return next((taken.content for taken in smtp.taken if sender in taken.rcpt_tos), None)

    return deliver
