"""The account object of a worker: settings, session, events, the lock of its folder."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from jmapplug.errors import UpstreamError
from jmapplug.hookspecs import Capability
from jmapplug.settings import load
from jmapplug.workers.account import Account, AccountLock
from jmapplug.workers.errors import WorkerUnavailable


class Fields(msgspec.Struct, frozen=True):
    password: str
    port: int = 1


class Session:
    def __init__(self, settings):
        self.settings = settings
        self.mail = "mail" if settings.port == 1 else None
        self.closed = False
        self.on_renewed = lambda news: None

    def close(self):
        self.closed = True


class Backend:
    type = "house"
    settings = Fields

    def open(self, settings, email):
        if settings.port == 0:
            raise UpstreamError("no way")
        return Session(settings)


RECORD = {"accountid": "alice", "email": "a@b", "type": "house", "settings": {"password": "x", "port": "1"}}


@pytest.fixture
def make(tmp_path):
    made = []

    def make(events=None, **more):
        services = SimpleNamespace(close=lambda: made_closed.append(1))
        capability = Capability("urn:x", types=("A", "B"), service=lambda account: services)
        plugins = SimpleNamespace(
            backends={"house": Backend}, schemas=[], types=frozenset({"A", "B"}), capabilities={"urn:x": capability}
        )
        settings = load({"JMAP_DATADIR": str(tmp_path)})
        publish = events.append if events is not None else lambda body: None
        account = Account(RECORD | more, settings, plugins, publish, None)
        made.append(account)
        return account

    made_closed: list[int] = []
    yield make
    for account in made:
        account.close()
    assert len(made_closed) == len(made)


def test_settings_are_the_backends_own_type(make):
    assert make().settings == Fields(password="x", port=1)


@pytest.mark.parametrize("more", [{"type": "nothing"}, {"settings": {"port": 1}}])
def test_an_account_that_no_plugin_can_serve_is_a_lasting_upstream_error_without_secrets(make, more):
    with pytest.raises(UpstreamError) as caught:
        make(**more)
    assert not caught.value.temporary


def test_the_session_is_opened_once_and_anew_with_changed_settings_only(make):
    account = make()
    session = account.session
    account.refresh(dict(RECORD))
    assert account.session is session
    account.refresh(RECORD | {"settings": {"password": "y"}})
    assert session.closed
    assert account.session.settings.password == "y"


def test_secrets_that_the_upstream_replaces_are_stored_and_the_session_goes_on(make):
    account = make()
    asked = []

    def renew(was, now):
        asked.append((was, now))
        return account.record | {"settings": account.record["settings"] | now, "seal": "next"}

    account.login = SimpleNamespace(renew=renew)
    session = account.session
    session.on_renewed({"password": "y"})
    session.on_renewed({"password": "z"})
    assert asked == [({"password": "x"}, {"password": "y"}), ({"password": "y"}, {"password": "z"})]
    assert account.session is session and account.settings.password == "z"
    account.refresh(RECORD | {"settings": {"password": "z", "port": "1"}, "seal": "next"})
    assert account.session is session, "what is stored is what the account knows"


def test_an_account_without_mail_says_so(make):
    account = make(settings={"password": "x", "port": 2})
    assert account.offers() == []
    with pytest.raises(UpstreamError, match="no mail"):
        account.mail_source()
    assert make().mail_source() == "mail"


def test_a_session_that_cannot_be_opened_offers_nothing(make):
    assert make(settings={"password": "x", "port": 0}).offers() == []


def test_each_state_is_told_once(make):
    events = []
    account = make(events)
    account.store.commit(lambda change: change.touch("A"))
    account.publish({"A": account.store.state("A")})
    account.store.commit(lambda change: change.touch("B"))
    assert [list(event["changed"]) for event in events] == [["A"], ["B"]]
    assert events[0]["id"] < events[1]["id"]


def test_a_position_does_not_run_ahead_of_what_has_been_told(make):
    """A client that comes back with it would never hear of what was committed and not announced yet."""
    events = []
    account = make(events)
    account.store.on_change = account.publish
    account.store.commit(lambda change: change.touch("A"))
    told = account.store.announced
    assert events[0]["id"] == told == account.store.state("A")
    account.store.commit(lambda change: change.touch("A"), announce=False)
    account.store.commit(lambda change: change.touch("B"), announce=False)
    assert account.store.announced == told
    account.store.announce()
    assert events[1]["id"] == account.store.announced == account.store.state("B")
    assert events[1]["changed"] == account.states()


def test_a_folder_has_one_owner_at_a_time(tmp_path):
    first, second = AccountLock(tmp_path / "a"), AccountLock(tmp_path / "a")
    first.take()
    with pytest.raises(WorkerUnavailable):
        second.take(patience=0)
    first.release()
    second.take(patience=0)
    second.release()


def test_an_account_is_watched_while_anybody_wants_to_know(make):
    account = make()
    assert account.watched is False
    wishes = [False, False]
    account.audience += [lambda: wishes[0], lambda: wishes[1]]
    assert account.watched is False
    wishes[1] = True
    assert account.watched is True


def test_connections_are_told_where_the_backend_counts_them(make):
    account = make()
    assert account.connections is None
    assert account.session is not None and account.connections is None
