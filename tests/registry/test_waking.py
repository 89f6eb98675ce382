"""Workers that have to run are started, whether anybody asks for them or not."""

from __future__ import annotations

from typing import Any

from jmapplug.errors import JmapplugError
from jmapplug.registry.waking import wake
from jmapplug.store.wake import is_marked, mark, unmark


class Client:
    """Stands for the way to the workers: remembers whom it asked; ``broken`` ones do not start."""

    def __init__(self, *broken: str) -> None:
        self.asked: list[tuple[str, str]] = []
        self.broken = broken

    def call(self, account: str, command: str, timeout: float) -> None:
        self.asked.append((account, command))
        if account in self.broken:
            raise JmapplugError("does not start")


def test_only_accounts_that_are_marked_are_woken_and_one_that_fails_stops_nobody(settings: Any) -> None:
    for name in ("a", "b", "c", "d"):
        settings.account_folder(name).mkdir(parents=True)
    mark(settings.account_folder("b"), "submission")
    mark(settings.account_folder("c"), "submission")
    mark(settings.account_folder("d"), "push")
    unmark(settings.account_folder("d"), "push")
    client = Client("b")
    wake(settings, ["a", "b", "c", "d", "gone"], client)  # type: ignore[arg-type]
    assert client.asked == [("b", "ping"), ("c", "ping")]


def test_marks_of_several_owners_are_independent(settings: Any) -> None:
    folder = settings.account_folder("a")
    folder.mkdir(parents=True)
    for name in ("submission", "push", "push"):
        mark(folder, name)
    unmark(folder, "submission")
    unmark(folder, "submission")
    assert is_marked(folder)
    unmark(folder, "push")
    assert not is_marked(folder)
