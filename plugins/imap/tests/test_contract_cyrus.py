"""The MailSource contract on Cyrus, which answers many things in its own way."""

from __future__ import annotations

from typing import Any

import pytest

from jmapplug.testing.mail_source import MailSourceContract


class TestCyrus(MailSourceContract):
    """QRESYNC, LIST-STATUS, OBJECTID, LIST-MYRIGHTS; an answer without a code to CREATE."""

    makes_previews = False  # Debian's does not: PREVIEW is NIL

    @pytest.fixture
    def upstream(self, cyrus: Any, open_upstream: Any) -> Any:
        return open_upstream(cyrus)


def test_mailbox_ids_are_right_though_cyrus_garbles_them_beside_other_status_items(
    cyrus: Any, open_upstream: Any
) -> None:
    upstream = open_upstream(cyrus)
    source = upstream.source()
    told = {folder.key.decode(): folder.server_id or "" for folder in source.folders()}
    assert len(set(told.values())) == len(told) > 1
    for name, server_id in told.items():
        assert f"MAILBOXID ({server_id})".encode() in upstream.client.status(name, "(MAILBOXID)")[1][0]
    assert {folder.key.decode(): folder.server_id for folder in source.folders()} == told
