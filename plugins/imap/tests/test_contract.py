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


PYMAP_CANNOT = {
    "test_copies_are_told_with_their_new_uids": "its maildir COPY makes an empty message (MOVE and its dict are right)",
    "test_a_folder_that_exists_is_not_made_again": "it answers SERVERBUG and has then lost the folder",
    "test_a_renamed_folder_takes_its_messages_children_and_subscriptions_along": "it subscribes no renamed folder",
    "test_a_folder_that_is_not_there_is_neither_renamed_nor_deleted": "its RENAME of nothing says OK",
}


class TestPymap(MailSourceContract):
    """No CONDSTORE, no LIST-STATUS, no SORT; OBJECTID."""

    user_keywords = False
    exact_octets = False  # it keeps LF only

    @pytest.fixture
    def upstream(self, pymap_server: Any, open_upstream: Opener) -> Any:
        return open_upstream(pymap_server)

    @pytest.fixture(autouse=True)
    def _able(self, request: pytest.FixtureRequest) -> None:
        for name, why in PYMAP_CANNOT.items():
            if request.node.name.startswith(name):
                pytest.skip(why)


HIDDEN = {
    "without_qresync": {"QRESYNC"},
    "without_condstore": {"QRESYNC", "CONDSTORE"},
    "without_list_status": {"LIST-STATUS"},
    "without_list_extended": {"LIST-EXTENDED", "LIST-STATUS", "SPECIAL-USE"},
    "without_idle": {"IDLE"},
    "without_uidplus": {"UIDPLUS"},
    "without_move": {"MOVE"},
    "without_literal_plus": {"LITERAL+"},
    "without_multiappend": {"MULTIAPPEND"},
    "without_unselect": {"UNSELECT"},
    "bare": {
        "QRESYNC", "CONDSTORE", "LIST-STATUS", "LIST-EXTENDED", "SPECIAL-USE", "IDLE", "ENABLE", "ESEARCH", "SORT",
        "SORT=DISPLAY", "ESORT", "CONTEXT=SEARCH", "PREVIEW", "PREVIEW=FUZZY", "SNIPPET=FUZZY", "LITERAL+", "UNSELECT",
        "NAMESPACE", "ID", "UIDPLUS", "MOVE", "NOTIFY", "COMPRESS=DEFLATE", "ACL", "RIGHTS=texk", "BINARY", "CHILDREN",
        "MULTIAPPEND", "CREATE-SPECIAL-USE",
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


class TestDovecotWithoutMessageIds(MailSourceContract):
    """A server of RFC 3501 alone that has no ids either: only size and header tell one message from another."""

    @pytest.fixture
    def upstream(self, dovecot: Any, open_upstream: Opener) -> Any:
        upstream = open_upstream(dovecot, proxied=True)
        upstream.through.hide = HIDDEN["bare"] | {"OBJECTID"}
        upstream.through.refuse = [(r"STATUS INBOX \(X-GUID\)", "BAD Unknown STATUS item")]
        return upstream
