"""Puts the rig beside the tests that use it, and the real ways out of a real Dovecot."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from submission_rig import Rig

from jmapplug.testing import smtp_server
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import accepts
from jmapplug.testing.smtp_server import SmtpServer


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "account")
    yield made
    made.close()


@pytest.fixture(scope="module")
def submission(dovecot_submission: Dovecot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpServer]:
    """Dovecot's Submission (AUTH, STARTTLS), and behind it a relay that delivers into Dovecot before it answers."""
    server = dovecot_submission
    assert not accepts(server.smtp_port)
    before = {
        "smtpHost": "localhost", "smtpPort": server.submission_port, "smtpSSL": 3,
        "smtpCA": server.ca_file.read_text(),
    }  # fmt: skip
    lmtp = f"{server.host}:{server.lmtp_port}"
    relay = smtp_server.start(tmp_path_factory.mktemp("relay"), "--lmtp", lmtp, port=server.smtp_port, before=before)
    yield relay
    relay.stop()


@pytest.fixture(scope="module")
def own_smtp(dovecot: Dovecot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpServer]:
    """A server that wants AUTH, delivers into Dovecot before it answers, and knows more extensions than Dovecot's."""
    arguments = ("--lmtp", f"{dovecot.host}:{dovecot.lmtp_port}", "--auth", f"*:{dovecot.password}")
    server = smtp_server.start(tmp_path_factory.mktemp("outbox"), *arguments)
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["own_smtp", "submission"])
def smtp(request: pytest.FixtureRequest) -> SmtpServer:
    """One way out and the other."""
    server: SmtpServer = request.getfixturevalue(request.param)
    return server
