"""Pytest fixtures: real servers, started once per run (per process under xdist) and stopped by pid."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from jmapplug.testing import cyrus as cyrus_server
from jmapplug.testing import dovecot as dovecot_server
from jmapplug.testing import gmail_server
from jmapplug.testing import nginx as nginx_server
from jmapplug.testing import pymap_server as pymap_module
from jmapplug.testing.cyrus import Cyrus
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.gmail_server import Gmail
from jmapplug.testing.proxy import Proxy
from jmapplug.testing.pymap_server import Pymap

LOGGED = 6000
"""Characters."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What each service that a failed test used has logged of late: it says why a call was answered by an error."""
    report = yield
    if report.failed:
        used = [getattr(one, "proxy", one) for one in getattr(item, "funcargs", {}).values()]
        services = {id(one): one for one in used if isinstance(one, Proxy)}
        for service in services.values():
            with suppress(OSError):
                report.sections.append((f"log of the service at {service.port}", service.log[-LOGGED:]))
    return report


def _needs(there: object, what: str) -> None:
    """Skip where ``there`` is false, or fail where the servers are required. ``what`` is missing, and how to get it."""
    if there:
        return
    if os.environ.get("JMAPPLUG_REQUIRE_SERVERS"):
        pytest.fail(what)
    pytest.skip(what)


def _running(format_: str = "sdbox", **layout: Any) -> Iterator[Dovecot]:
    """A Dovecot of ``dovecot_server.start``, for as long as the fixture lasts."""
    _needs(dovecot_server.available(), "Dovecot is not installed (apt-get install dovecot-imapd dovecot-lmtpd)")
    server = dovecot_server.start(format_, **layout)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def dovecot() -> Iterator[Dovecot]:
    """A real Dovecot (sdbox, "/" as separator)."""
    yield from _running()


@pytest.fixture(scope="session")
def dovecot_sieve(dovecot: Dovecot) -> Dovecot:
    """The same Dovecot where it has Pigeonhole: ``sieve_port`` speaks ManageSieve, LMTP runs the active script."""
    _needs(dovecot.sieve_port, "Pigeonhole is not installed (apt-get install dovecot-sieve dovecot-managesieved)")
    return dovecot


@pytest.fixture(scope="session")
def dovecot_submission(dovecot: Dovecot) -> Dovecot:
    """The same Dovecot where it has Submission: ``submission_port`` takes mail and relays it to ``smtp_port``."""
    _needs(dovecot.submission_port, "Dovecot's submission is not installed (apt-get install dovecot-submissiond)")
    return dovecot


@pytest.fixture(scope="session")
def dovecot_maildir() -> Iterator[Dovecot]:
    """A real Dovecot in Courier's layout: maildir, everything under "INBOX.", separator "."."""
    yield from _running("maildir", separator=".", prefix="INBOX.")


@pytest.fixture(scope="session")
def dovecot_shared() -> Iterator[Dovecot]:
    """A real Dovecot with other users' folders ("shared/<user>/") and public ones ("public/")."""
    yield from _running(shared="listed")


@pytest.fixture(scope="session")
def dovecot_apart() -> Iterator[Dovecot]:
    """A real Dovecot that lists shared folders only by their prefixes ("shared/<user>/", "#public.")."""
    yield from _running(shared="apart")


@pytest.fixture(scope="session")
def cyrus() -> Iterator[Cyrus]:
    """A real Cyrus: OBJECTID and QRESYNC, its own kind of threads, search, rights and quotas."""
    if not cyrus_server.available():
        pytest.skip("Cyrus is not unpacked here (make servers, or tests/cyrus.sh FOLDER and JMAPPLUG_CYRUS=FOLDER)")
    server = cyrus_server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def needs_nginx() -> None:
    """A real nginx can be started (``testing.nginx``)."""
    _needs(nginx_server.program(), "nginx is not installed (apt-get install nginx)")


@pytest.fixture(scope="session")
def pymap_server() -> Iterator[Pymap]:
    """pymap: no CONDSTORE, OBJECTID."""
    server = pymap_module.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def gmail() -> Iterator[Gmail]:
    """A small server of ours that behaves like Gmail."""
    server = gmail_server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def proxy() -> Iterator[Proxy]:
    """One running service for many tests; each uses accounts of its own."""
    service = Proxy(JMAP_SYNC_INTERVAL="5")
    yield service
    service.stop()


@pytest.fixture
def account_name() -> str:
    """An accountid that no other test uses."""
    return f"a{os.getpid()}n{next(_numbers)}"


_numbers = itertools.count(1)
