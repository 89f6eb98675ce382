"""The MailSource contract on a server that behaves like Gmail: folders are labels of one store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jmapplug.testing import gmail_server
from jmapplug.testing.gmail_server import Gmail
from jmapplug.testing.mail_source import MailSourceContract


@pytest.fixture(scope="module")
def doubles() -> Iterator[Gmail]:
    """A Gmail that takes two equal messages for two, and deletes for good what is expunged without a label left."""
    server = gmail_server.start("--no-dedupe", "--expunge", "delete")
    yield server
    server.stop()


class TestGmail(MailSourceContract):
    """CONDSTORE, LIST-STATUS, MOVE; no QRESYNC, SORT, PREVIEW."""

    @pytest.fixture
    def upstream(self, doubles: Gmail, open_upstream: Any) -> Any:
        return open_upstream(doubles)


@pytest.mark.parametrize("_hidden", ["CONDSTORE", "LIST-STATUS", "ESEARCH", "IDLE"])
class TestGmailMadePoorer(MailSourceContract):
    """Each fallback alone."""

    @pytest.fixture
    def upstream(self, doubles: Gmail, open_upstream: Any, _hidden: str) -> Any:
        upstream = open_upstream(doubles, proxied=True)
        upstream.through.hide = {_hidden}
        return upstream
