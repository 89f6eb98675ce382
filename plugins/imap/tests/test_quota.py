"""Quotas on a real Dovecot that counts them (RFC 9208)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jmapplug_imap.backend import ImapBackend

from jmapplug.errors import UpstreamError
from jmapplug.testing.mail_source import message
from jmapplug.testing.mail_writing import new_message


@pytest.fixture
def small(dovecot: Any, open_upstream: Any) -> Any:
    """An account with room for a megabyte."""
    return open_upstream(dovecot, kind="small")


def test_quotas_are_told_in_octets(dovecot: Any, small: Any, tmp_path: Path) -> None:
    session = ImapBackend().open(small.settings(), small.user)
    assert session.quota is None and not session.known  # nobody has asked the server yet
    assert session.mail is not None and session.mail.features and session.known
    quota = session.quota
    assert quota is not None
    (before,) = quota.quotas()
    assert (before.root, before.resource, before.limit) == ("User quota", "STORAGE", dovecot.small_quota)
    session.mail.append(b"INBOX", [new_message(tmp_path, message("one") + b"x" * 50_000)])
    (after,) = quota.quotas()
    assert 50_000 <= after.used - before.used < 53_000  # it counts in units of 1,024
    session.close()


def test_a_server_without_quotas_has_no_source_of_them(dovecot: Any, open_upstream: Any) -> None:
    upstream = open_upstream(dovecot, proxied=True)
    upstream.through.hide = {"QUOTA"}
    session = ImapBackend().open(upstream.settings(), upstream.user)
    assert session.mail is not None and session.mail.features and session.known and session.quota is None
    session.close()


def test_what_does_not_fit_is_refused_and_the_rest_is_there(small: Any, tmp_path: Path) -> None:
    source = small.source()
    sizes = (400_000, 900_000, 400_000)
    news = [new_message(tmp_path, message(f"n{n}") + b"x" * size) for n, size in enumerate(sizes)]
    answers = source.append(b"INBOX", news)
    assert [answer.error.code if answer.error else None for answer in answers] == [None, "overquota", None]
    assert small.uids(b"INBOX") == [answers[0].uid, answers[2].uid]


def test_a_copy_that_does_not_fit_copies_nothing_and_a_move_needs_no_room(small: Any, tmp_path: Path) -> None:
    source = small.source()
    answers = source.append(b"INBOX", [new_message(tmp_path, message(f"n{n}") + b"x" * 300_000) for n in range(2)])
    validity, uids = answers[0].uidvalidity, [answer.uid for answer in answers]
    target = source.create_folder(None, "Copies")
    with pytest.raises(UpstreamError) as caught:
        source.copy(b"INBOX", validity, uids, target)
    assert caught.value.code == "overquota" and small.uids(target) == [] and small.uids(b"INBOX") == uids
    assert len(source.move(b"INBOX", validity, uids, target).uids) == 2 and small.uids(b"INBOX") == []
