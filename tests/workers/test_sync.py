"""The worker's loop with services that do as they are told: turns, back-off, requests first, reports."""

from __future__ import annotations

from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event

from jmapplug.errors import AuthenticationError, FolderError, UpstreamError
from jmapplug.workers import resting
from jmapplug.workers import sync as sync_module
from jmapplug.workers.errors import WorkerUnavailable
from jmapplug.workers.sync import Line, SyncLoop, pause_after
from jmapplug.workers.words import in_words


class Busy:
    def __init__(self):
        self.in_flight = 0
        self.calm = Event()
        self.calm.set()
        self.last_used = 0.0


class Service:
    """Notes what is asked of it; ``gate`` holds a pass until it is set."""

    def __init__(self):
        self.log = []
        self.error = None
        self.gate = Event()
        self.gate.set()
        self.slices = 0
        self.told = Event()
        self.inside = 0

    def _enter(self, what):
        self.inside += 1
        assert self.inside == 1, "passes and slices take turns"
        self.log.append(what)
        self.gate.wait()
        self.inside -= 1
        if self.error:
            raise type(self.error)(*self.error.args)

    def setup(self):
        self._enter("setup")

    def sync(self):
        self._enter("sync")

    def background(self):
        self._enter("slice")
        self.slices -= 1
        return self.slices > 0

    def wait(self, timeout):
        self.told.wait()
        self.told.clear()
        return True

    def status(self):
        return {"folders": 2, "messages": 0, "phase": "idle"}

    def close(self):
        pass


def until(condition):
    with gevent.Timeout(60):
        while not condition():
            gevent.sleep(0.001)


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def busy():
    return Busy()


@pytest.fixture
def line(service, busy):
    return Line(service, busy, 30, lambda: None, lambda: None)


@pytest.fixture
def run():
    greenlets = []

    def run(*functions):
        greenlets.extend(gevent.spawn(function) for function in functions)
        return greenlets[-1]

    yield run
    gevent.killall(greenlets)


def test_pauses_grow_from_a_second_to_five_minutes_and_refused_credentials_wait_a_minute_at_least():
    assert [pause_after(n, False) for n in (1, 2, 3, 20, 9999)] == [1, 2, 4, 300, 300]
    assert [pause_after(n, True) for n in (1, 2, 20)] == [60, 60, 300]


def test_a_new_account_is_set_up_then_synchronised_and_again_when_told(line, service, run):
    run(line.run)
    until(lambda: service.log == ["setup", "sync"])
    service.told.set()
    until(lambda: service.log == ["setup", "sync", "sync"])
    assert line.last_sync


def test_callers_who_ask_during_a_pass_share_the_one_that_begins_after_they_asked(line, service, run):
    service.gate.clear()
    first = run(line.sync)
    until(lambda: service.log == ["sync"])
    others = [run(line.sync) for _ in range(5)]
    gevent.sleep(0)
    service.gate.set()
    gevent.joinall([first, *others], timeout=60, raise_error=True)
    assert service.log == ["sync", "sync"]


def test_a_pass_that_fails_is_the_error_of_who_asked_and_is_remembered_until_one_succeeds(line, service):
    service.error = UpstreamError("away")
    with pytest.raises(UpstreamError, match="away"):
        line.sync()
    assert line.error == "away"
    service.error = None
    line.sync()
    assert line.error is None


def test_those_who_waited_for_a_failing_pass_do_not_take_it_for_a_good_one(line, service, run):
    service.gate.clear()
    service.error = UpstreamError("away")
    waiting = [run(line.sync) for _ in range(3)]
    until(lambda: service.log == ["sync"])
    service.gate.set()
    gevent.joinall(waiting, timeout=60)
    assert [type(greenlet.exception) for greenlet in waiting] == [UpstreamError] * 3


def test_setup_is_done_once_however_often_it_is_asked_for(line, service, run):
    askers = [run(line.setup) for _ in range(5)]
    gevent.joinall(askers, timeout=60, raise_error=True)
    assert service.log == ["setup"]


def test_background_work_follows_a_pass_to_its_end_in_turns_with_further_passes(line, service, run):
    service.slices = 4
    run(line.run, line.background)
    until(lambda: service.slices == 0)
    line.sync()
    until(lambda: service.log.count("slice") >= 4)
    assert service.log[:2] == ["setup", "sync"]


def test_background_work_lets_requests_go_first(line, service, busy, run, monkeypatch):
    monkeypatch.setattr(sync_module, "CALM_PATIENCE", 60)
    busy.in_flight = 1
    busy.calm.clear()
    run(line.background)
    line.sync()
    for _ in range(20):
        gevent.sleep(0)
    assert service.log == ["sync"]
    busy.in_flight = 0
    busy.calm.set()
    until(lambda: service.log == ["sync", "slice"])


def test_background_work_rests_for_its_bandwidth_and_passes_do_not(line, service, run, monkeypatch):
    monkeypatch.setattr(sync_module, "STEP", 0.001)
    rests = [60.0]
    service.pace = lambda: rests[0]
    service.slices = 2
    run(line.background)
    line.sync()
    line.sync()
    gevent.sleep(0.01)
    assert service.log == ["sync", "sync"] and line.unfinished
    rests[0] = 0.0
    until(lambda: service.log.count("slice") == 2)


def test_an_account_with_work_left_is_unfinished_and_a_failing_one_is_not(line, service, run):
    service.gate.clear()
    pass_ = run(line.sync)
    until(lambda: service.log == ["sync"])
    assert line.unfinished
    service.gate.set()
    pass_.join(60)
    assert line.unfinished  # background work may be left: nobody has asked yet
    service.slices = 1
    run(line.background)
    until(lambda: not line.unfinished)


def test_the_loop_backs_off_asks_for_better_credentials_and_goes_on(service, busy, run, monkeypatch):
    asked, pauses = [], []
    line = Line(service, busy, 30, lambda: None, lambda: asked.append(1))
    monkeypatch.setattr(sync_module, "pause_after", lambda *args: pauses.append(args) or 0.001)
    service.error = AuthenticationError("refused")
    run(line.run)
    until(lambda: len(asked) >= 3)
    assert pauses[:3] == [(1, True), (2, True), (3, True)]
    service.error = None
    until(lambda: line.last_sync)
    assert line.error is None


def test_a_pass_that_failed_is_not_tried_again_before_the_time_that_upstream_names(service, busy, run, monkeypatch):
    """Wish 12."""
    loop = SyncLoop({"urn": service}, busy, 30, lambda report: None, lambda: None, list)
    service.error = UpstreamError("Suggested Backoff Time: 178755", code="throttled")
    monkeypatch.setattr(Service, "_enter", noting(178.7))
    run(loop.lines["urn"].run)
    until(lambda: loop.status()["next_retry"] is not None)
    assert 170 < loop.status()["next_retry"] <= 178.7
    assert "fewer requests" in loop.status()["error"]
    # Somebody asks, and upstream is well again: nobody waits for the end of the pause.
    monkeypatch.setattr(Service, "_enter", noting(None))
    passes = service.log.count("sync")
    loop.sync()
    until(lambda: loop.status()["next_retry"] is None)
    until(lambda: service.log.count("sync") > passes)


def noting(seconds):
    """A service's work that fails with a pause, or does not."""

    def enter(self, what):
        self.log.append(what)
        if seconds is not None:
            raise UpstreamError("slow down", code="throttled", retry_after=seconds)

    return enter


def test_status_tells_of_a_pause_that_a_request_has_met_before_any_pass(service, busy):
    held = [UpstreamError("slow down", code="throttled", retry_after=40.04)]
    loop = SyncLoop({"urn": service}, busy, 30, lambda report: None, lambda: None, list, held=lambda: held[0])
    loop.sync()
    status = loop.status()
    assert status["next_retry"] == 40.0 and status["error"].endswith("for a while: slow down")
    held[0] = None
    assert (loop.status()["next_retry"], loop.status()["error"]) == (None, None)


def test_a_folder_that_is_refused_holds_up_neither_news_nor_history(line, service, run):
    """It is the error of who asked and stands in the status; the loop goes on as after any pass."""
    line.setup()
    service.error = FolderError("this folder is in use")
    run(line.run)
    until(lambda: line.error == "this folder is in use" and service.log == ["setup", "sync"])
    assert line.retry_at is None and line.last_sync is None and line.unfinished
    service.told.set()
    until(lambda: service.log == ["setup", "sync", "sync"])
    with pytest.raises(FolderError):
        line.sync()
    service.error = None
    line.sync()
    assert line.error is None and line.last_sync


@pytest.mark.parametrize("well", [True, False])
def test_background_work_goes_on_when_a_pass_shows_that_a_long_pause_has_ended(line, service, run, monkeypatch, well):
    """New settings end the pause that refused credentials brought, an hour perhaps."""
    monkeypatch.setattr(sync_module, "background_pause", lambda error, failures: 0.0)
    failing = [UpstreamError("later", retry_after=3600)]

    def background():
        service.log.append("slice")
        if failing:
            raise failing.pop()
        return False

    service.background = background
    line.sync()
    run(line.background)
    until(lambda: service.log == ["sync", "slice"])
    if well:
        line.sync()
        until(lambda: service.log == ["sync", "slice", "sync", "slice"])
    else:
        service.error = UpstreamError("away")
        with pytest.raises(UpstreamError):
            line.sync()
        gevent.idle()
        assert service.log == ["sync", "slice", "sync"]


def test_a_defect_in_a_pass_does_not_end_synchronisation(line, service, run, monkeypatch):
    monkeypatch.setattr(sync_module, "pause_after", lambda *args: 0)
    service.error = KeyError("defect")
    run(line.run)
    until(lambda: len(service.log) > 3)
    assert "defect" not in str(line.error)
    service.error = None
    until(lambda: line.last_sync)


def test_reports_tell_the_whole_account(service, busy):
    reports = []
    loop = SyncLoop({"urn": service}, busy, 30, reports.append, lambda: None, lambda: ["mail"])
    loop.sync()
    service.error = UpstreamError("away")
    with pytest.raises(UpstreamError):
        loop.sync()
    assert [(report["folders"], report["error"], report["offers"]) for report in reports] == [
        (2, None, ["mail"]),
        (2, "away", ["mail"]),
    ]
    assert "services" not in reports[0] and reports[0]["facts"] == {}
    assert loop.status()["services"]["urn"]["folders"] == 2


def test_reports_carry_what_capabilities_learnt(service, busy):
    reports = []
    facts = {"urn:x": {"size": 5}}
    SyncLoop({"urn": service}, busy, 30, reports.append, lambda: None, list, lambda: facts).sync()
    assert reports[0]["facts"] == facts


@pytest.fixture
def reporting(service, busy, run, monkeypatch):
    """(a loop whose greenlet for reports runs, what it has reported, what the next report is refused with)."""
    for name in ("REPORT_PAUSE", "REPORT_AGAIN"):
        monkeypatch.setattr(sync_module, name, 0.001)
    reports, refusals, facts = [], [], {}

    def report(status):
        if refusals:
            raise refusals.pop()
        reports.append(status)

    loop = SyncLoop({"urn": service}, busy, 30, report, lambda: None, list, lambda: facts)
    run(loop._reports)
    loop.sync()
    return SimpleNamespace(loop=loop, line=loop.lines["urn"], reports=reports, refusals=refusals, facts=facts)


def quiet(reporting):
    """Enough turns of the hub for a report to arrive that is due."""
    gevent.sleep(0.05)
    return len(reporting.reports)


def test_passes_after_which_all_is_as_before_are_not_reported(reporting):
    before = quiet(reporting)
    for _ in range(5):
        reporting.line.sync()
        gevent.sleep(0.01)
    assert quiet(reporting) == before


def test_what_is_another_way_after_a_pass_is_reported(reporting, service):
    before = quiet(reporting)
    service.error = UpstreamError("away")
    with pytest.raises(UpstreamError):
        reporting.line.sync()
    reporting.line._failed(service.error)
    until(lambda: len(reporting.reports) == before + 1)
    assert reporting.reports[-1]["error"] == "away"
    service.error = None
    reporting.line.sync()
    until(lambda: len(reporting.reports) == before + 2)
    # What capabilities learn is put into the same dict.
    reporting.facts["urn:x"] = {"size": 5}
    reporting.line.sync()
    until(lambda: len(reporting.reports) == before + 3)
    assert reporting.reports[-1]["facts"] == {"urn:x": {"size": 5}} and reporting.reports[-2]["facts"] == {}


def test_that_passes_go_on_is_reported_now_and_then(reporting, monkeypatch):
    before = quiet(reporting)
    monkeypatch.setattr(sync_module, "RETOLD", 0)
    reporting.line.sync()
    until(lambda: len(reporting.reports) > before)


def test_a_report_that_did_not_arrive_is_made_again_without_another_pass(reporting):
    before = quiet(reporting)
    reporting.facts["urn:x"] = {"size": 5}
    reporting.refusals[:] = [WorkerUnavailable(), RuntimeError("a defect")]
    reporting.line.sync()
    until(lambda: len(reporting.reports) > before)
    assert not reporting.refusals


def waits_of(service, run, interval, ends=3):
    """The timeouts of a service's first waits."""
    timeouts = []

    def wait(timeout):
        timeouts.append(timeout)
        if len(timeouts) == ends:
            gevent.sleep(60)
        return False

    service.wait = wait
    run(Line(service, Busy(), interval, lambda: None, lambda: None).run)
    until(lambda: len(timeouts) == ends)
    return timeouts


@pytest.mark.parametrize(("interval", "apart"), [(1, 20), (30, 600), (300, 600), (900, 900)])
def test_a_service_with_hardly_anything_to_do_has_passes_far_apart_and_no_steps(service, run, interval, apart):
    service.seldom = True
    assert all(apart - 5 < timeout <= apart for timeout in waits_of(service, run, interval))


def test_a_service_whose_patience_will_not_become_less_takes_longer_steps(service, run):
    service.patience = lambda interval: 3600.0
    assert set(waits_of(service, run, 30)) == {sync_module.STEP}
    service.steady = True
    assert set(waits_of(service, run, 30)) == {sync_module.STEADY_STEP}


def test_a_service_that_knows_how_long_to_wait_is_asked_again_at_every_step(service, busy, run, monkeypatch):
    monkeypatch.setattr(sync_module, "STEP", 0.01)
    asked, steps, patience = [], [], [3600.0]
    service.patience = lambda interval: asked.append(interval) or patience[0]

    def wait(timeout):
        steps.append(timeout)
        gevent.sleep(timeout)
        return False

    service.wait = wait
    run(Line(service, busy, 30, lambda: None, lambda: None).run)
    until(lambda: len(steps) >= 3)
    assert service.log == ["setup", "sync"] and set(asked) == {30} and max(steps) <= 0.01
    patience[0] = 0.02
    until(lambda: len(service.log) > 2)


def test_memory_is_given_back_once_after_work_and_when_nobody_is_there(service, busy, run, monkeypatch):
    for name, seconds in {"AFTER": 0.01, "CALM": 0.01, "BETWEEN": 0}.items():
        monkeypatch.setattr(resting, name, seconds)
    rests, trims = [], []
    monkeypatch.setattr(resting, "trim_memory", lambda: trims.append(len(service.log)))
    service.rest = lambda: rests.append(len(service.log))
    loop = SyncLoop({"urn": service}, busy, 30, lambda report: None, lambda: None, list)
    run(loop.lines["urn"].background, loop.resting.run)
    busy.in_flight = 1
    for _ in range(3):
        loop.sync()
        gevent.sleep(0.03)
    assert not rests
    busy.in_flight = 0
    until(lambda: trims)
    gevent.sleep(0.05)
    assert len(rests) == len(trims) == 1
    loop.sync()
    until(lambda: len(trims) == 2)
    assert rests == trims


def test_looks_every_few_seconds_are_not_followed_by_a_rest_each(service, busy, run, monkeypatch):
    for name, seconds in {"AFTER": 0.001, "CALM": 0.001, "BETWEEN": 60}.items():
        monkeypatch.setattr(resting, name, seconds)
    trims = []
    monkeypatch.setattr(resting, "trim_memory", lambda: trims.append(1))
    loop = SyncLoop({"urn": service}, busy, 30, lambda report: None, lambda: None, list)
    run(loop.lines["urn"].background, loop.resting.run)
    for _ in range(10):
        loop.lines["urn"].sync()
        gevent.sleep(0.01)
    until(lambda: trims)
    assert trims == [1]
    loop.sync()  # what is reported is news
    until(lambda: trims == [1, 1])


def test_status_says_when_the_next_try_is(service, busy, run):
    loop = SyncLoop({"urn": service}, busy, 30, lambda report: None, lambda: None, list)
    service.error = UpstreamError("away")
    assert loop.status()["next_retry"] is None
    run(loop.lines["urn"].run)
    until(lambda: loop.status()["next_retry"] is not None)
    assert 0 <= loop.status()["next_retry"] <= 1 and loop.status()["error"] == "away"
    service.error = None
    until(lambda: loop.status()["error"] is None)
    assert loop.status()["next_retry"] is None


def test_status_says_how_changes_are_learnt(service, busy):
    loop = SyncLoop({"urn": service}, busy, 30, lambda report: None, lambda: None, list)
    assert loop.status()["watching"] is None
    service.status = lambda: {"watching": "notify"}
    assert loop.status()["watching"] == "notify"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (AuthenticationError("go away"), "does not take the stored credentials: go away"),
        (UpstreamError("later", code="LIMIT"), "allows us no more for the moment: later"),
        (UpstreamError("later", code="unavailable"), "not available for the moment: later"),
        (UpstreamError("cannot connect"), "cannot connect"),
    ],
)
def test_an_operator_reads_what_is_the_matter(error, words):
    assert in_words(error).endswith(words)
