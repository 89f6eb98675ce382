"""The MailSource contract on every kind of server there is here, and on Dovecot with its extensions taken away."""

from __future__ import annotations

from typing import Any

import pytest

from jmapplug.testing.mail_source import MailSourceContract

Opener = Any


class TestDovecot(MailSourceContract):
    """QRESYNC, LIST-STATUS, SORT, PREVIEW, IDLE; message GUIDs but no OBJECTID."""

    @pytest.fixture
    def upstream(self, dovecot: Any, open_upstream: Opener) -> Any:
        return open_upstream(dovecot)


class TestCourierLayout(MailSourceContract):
    """Maildir, everything under "INBOX.", "." as separator."""

    @pytest.fixture
    def upstream(self, dovecot_maildir: Any, open_upstream: Opener) -> Any:
        return open_upstream(dovecot_maildir, separator=".", prefix="INBOX.")


class TestPymap(MailSourceContract):
    """No CONDSTORE, no LIST-STATUS, no SORT; OBJECTID."""

    user_keywords = False
    exact_octets = False  # it keeps LF only

    @pytest.fixture
    def upstream(self, pymap_server: Any, open_upstream: Opener) -> Any:
        return open_upstream(pymap_server)


HIDDEN = {
    "without_qresync": {"QRESYNC"},
    "without_condstore": {"QRESYNC", "CONDSTORE"},
    "without_list_status": {"LIST-STATUS"},
    "without_list_extended": {"LIST-EXTENDED", "LIST-STATUS", "SPECIAL-USE"},
    "without_idle": {"IDLE"},
    "bare": {
        "QRESYNC", "CONDSTORE", "LIST-STATUS", "LIST-EXTENDED", "SPECIAL-USE", "IDLE", "ENABLE", "ESEARCH", "SORT",
        "SORT=DISPLAY", "ESORT", "CONTEXT=SEARCH", "PREVIEW", "PREVIEW=FUZZY", "SNIPPET=FUZZY", "LITERAL+", "UNSELECT",
        "NAMESPACE", "ID", "UIDPLUS", "MOVE", "NOTIFY", "COMPRESS=DEFLATE", "ACL", "RIGHTS=texk", "BINARY", "CHILDREN",
    },
}  # fmt: skip


@pytest.mark.parametrize("_hidden", list(HIDDEN))
class TestDovecotMadePoorer(MailSourceContract):
    """Each fallback alone, and a server that has nothing but RFC 3501."""

    @pytest.fixture
    def upstream(self, dovecot: Any, open_upstream: Opener, _hidden: str) -> Any:
        upstream = open_upstream(dovecot, proxied=True)
        upstream.through.hide = HIDDEN[_hidden]
        return upstream
