"""What is done where folders are labels (mail-rules 35), against a model of such a server."""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from jmapplug.capabilities.mail.write_labels import Labels, plan_label_destroy, plan_labels
from jmapplug.capabilities.mail.write_plan import Copy, Plan

INBOX, WORK, HOME, EVERYTHING, TRASH, JUNK = range(1, 7)
LABELS = Labels(EVERYTHING, TRASH, frozenset({TRASH, JUNK}))
PLAIN = (INBOX, WORK, HOME)
PLACES = [frozenset({TRASH}), frozenset({JUNK})]
here_s = st.one_of(
    st.sampled_from(PLACES), st.sets(st.sampled_from(PLAIN)).map(lambda labels: frozenset(labels | {EVERYTHING}))
)
targets_s = st.sets(st.sampled_from([*PLAIN, EVERYTHING, TRASH, JUNK]), min_size=1).map(frozenset)


def copies(mids: Collection[int], flags: str = "") -> list[Copy]:
    return [Copy(mid, 10 + mid, flags) for mid in sorted(mids)]


class Model:
    """One message on such a server. ``lost``: it is gone for good."""

    def __init__(self, mids: Collection[int]) -> None:
        self.labels = set(mids) & set(PLAIN)
        self.place = next(iter(set(mids) & LABELS.alone), 0)
        self.lost = False

    @property
    def mids(self) -> frozenset[int]:
        if self.lost:
            return frozenset()
        return frozenset({self.place}) if self.place else frozenset(self.labels | {EVERYTHING})

    def put(self, mid: int) -> None:
        if mid in LABELS.alone:
            self.place, self.labels = mid, set()
        else:
            self.place = 0
            self.labels |= {mid} - {EVERYTHING}

    def run(self, plan: Plan) -> None:
        """As the runner does, in its order; no step may name a copy that is not there."""
        for step in plan.copies:
            assert step.copy.mid in self.mids and step.target not in self.mids
            assert not self.place, "a copy out of Trash would take it away from there"
            self.put(step.target)
        for step in plan.moves:
            assert step.copy.mid in self.mids
            self.labels.discard(step.copy.mid)
            self.put(step.target)
        for copy in plan.removes:
            assert copy.mid in self.mids and copy.mid != EVERYTHING
            self.lost |= copy.mid in LABELS.alone
            self.labels.discard(copy.mid)
        for copy in plan.drawn:
            assert copy.mid not in self.mids
        if plan.shown is not None:
            assert plan.shown.target == EVERYTHING and EVERYTHING in self.mids


@given(here_s, targets_s)
def test_any_email_gets_to_its_goal_in_two_rounds_and_is_never_lost(
    here: frozenset[int], targets: frozenset[int]
) -> None:
    goal = LABELS.goal(here, targets)
    assert goal, "an Email is always somewhere"
    model = Model(here)
    plan = plan_labels(1, copies(here), (), (), goal, LABELS)
    model.run(plan)
    if plan.then is not None:
        assert plan.then == goal
        plan = plan_labels(1, copies(model.mids), (), (), goal, LABELS)
        assert plan.then is None
        model.run(plan)
    assert model.mids == goal and not model.lost


@given(here_s, targets_s)
def test_the_goal_is_what_is_asked_for_where_that_can_be(here: frozenset[int], targets: frozenset[int]) -> None:
    goal = LABELS.goal(here, targets)
    assert goal == Model(goal).mids, "the server can do it"
    if Model(targets).mids == targets:
        assert goal == targets
    assert LABELS.goal(goal, goal) == goal
    if not goal & LABELS.alone:
        assert goal - {EVERYTHING} == targets - {EVERYTHING} - LABELS.alone
    else:
        assert goal <= targets


@given(here_s, targets_s)
def test_what_is_there_already_costs_nothing(here: frozenset[int], targets: frozenset[int]) -> None:
    goal = LABELS.goal(here, targets)
    if goal == here:
        assert plan_labels(1, copies(here), (), (), goal, LABELS).empty


@given(here_s)
def test_destroying_goes_through_trash_and_leaves_nothing(here: frozenset[int]) -> None:
    model = Model(here)
    plan = plan_label_destroy(1, copies(here), LABELS)
    model.run(plan)
    if plan.then is not None:
        assert plan.then == frozenset() and model.mids == {TRASH}
        model.run(plan_label_destroy(1, copies(model.mids), LABELS))
    assert model.lost


@given(here_s, targets_s)
def test_keywords_are_written_once_and_shown_by_every_copy(here: frozenset[int], targets: frozenset[int]) -> None:
    goal = LABELS.goal(here, targets)
    (step,) = plan_labels(1, copies(here, "\\Seen"), {"$flagged"}, {"$seen"}, goal, LABELS).stores
    assert (step.add, step.remove) == (("\\Flagged",), ("\\Seen",))
    assert {step.copy, *step.also} == set(copies(here, "\\Seen"))


def test_an_email_that_is_not_seen_in_everything_yet_is_looked_for_there_before_its_label_goes() -> None:
    plan = plan_labels(1, copies({INBOX}), (), (), frozenset({EVERYTHING}), LABELS)
    assert plan.shown is not None and plan.removes and not plan.copies


def test_without_a_folder_of_everything_labels_are_just_folders() -> None:
    bare = Labels(None, TRASH, frozenset({TRASH}))
    assert bare.goal({INBOX}, {WORK}) == {WORK}
    plan = plan_labels(1, copies({INBOX}), (), (), frozenset({WORK}), bare)
    assert plan.moves and plan.shown is None and not plan.removes
    back = plan_labels(1, copies({TRASH}), (), (), frozenset({WORK, HOME}), bare)
    assert back.then == {WORK, HOME} and back.shown is None
