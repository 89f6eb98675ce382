"""Plans of what is in force: from any state to any other, the user's script running all the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.capabilities.sieve.force import MASTER, VACATION, Blocked, View, apply, master, parse_master, plan

ALL = frozenset({"include", "vacation"})
NAMES = ("a", 'b "c"')


class Recorder:
    """A SieveSource that keeps every state it goes through."""

    def __init__(self, view: View) -> None:
        self.states = [view]

    def write(self, name: str, content: bytes) -> None:
        self.states.append(self.states[-1].put(name, content))

    def delete(self, name: str) -> None:
        assert name != self.states[-1].active
        self.states.append(self.states[-1].without(name))

    def activate(self, name: str | None) -> None:
        assert name is None or name in self.states[-1].contents
        self.states.append(View(self.states[-1].contents, name))


@st.composite
def views(draw: st.DrawFn) -> View:
    contents = {name: b"keep;" for name in NAMES if draw(st.booleans())} | {VACATION: b"# off"}
    included = draw(st.sampled_from([None, (), *((name,) for name in NAMES), NAMES]))
    if included is not None:
        contents[MASTER] = master(*included)
    return View(contents, draw(st.sampled_from([None, *contents])))


@given(views(), st.sampled_from([None, *NAMES]), st.booleans())
def test_a_plan_leads_where_it_shall_and_never_past_the_users_script(view: View, user: str | None, on: bool) -> None:
    if user is not None and user not in view.contents:
        return
    recorder = Recorder(view)
    after = apply(recorder, view, plan(view, user, on, ALL))  # type: ignore[arg-type]
    assert after == recorder.states[-1]
    assert (after.user, after.vacation_runs) == (user, on)
    assert after.shown == (user or (VACATION if on else None))
    assert (MASTER in after.contents) is (on and user is not None)
    assert all(state.user in (view.user, user) for state in recorder.states)
    assert plan(after, user, on, ALL) == []


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1), max_size=3))
def test_the_master_is_known_by_its_words_and_by_nothing_less(names: list[str]) -> None:
    content = master(*names)
    assert parse_master(content) == tuple(names)
    assert parse_master(content.replace(b"\r\n", b"\n")) == tuple(names)
    assert parse_master(content + b"keep;") is None
    assert parse_master(b"# mine\r\n" + content) is None


@pytest.mark.parametrize(
    ("contents", "extensions"),
    [
        ({"a": b"keep;"}, frozenset({"vacation"})),
        ({"a": b'require "vacation"; vacation "x";'}, ALL),
        ({"a": b"keep;", MASTER: b"keep; # my own"}, ALL),
        ({}, ALL),
    ],
)
def test_what_cannot_run_together_is_blocked_and_switching_off_never_is(
    contents: dict[str, bytes], extensions: frozenset[str]
) -> None:
    view = View({VACATION: b"# off", **contents}, "a")
    with pytest.raises(Blocked):
        plan(view, "a", True, extensions)
    assert plan(view, "a", False, extensions) == []
