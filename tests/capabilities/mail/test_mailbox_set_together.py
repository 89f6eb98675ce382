"""Mailbox/set beside passes, history and Email/set: every order of their steps ends well (mail-rules 12, 19)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from sync_rig import Rig

from jmapplug.testing.memory_server import MemoryServer


@pytest.mark.parametrize("seed", range(12))
def test_writers_and_passes_at_the_same_time_end_in_the_server_s_view(tmp_path: Path, seed: int) -> None:
    """Each call upstream lets the others run for a while; nobody's step is undone by an older look."""
    # Where the server has ids, a listing that came too late is put right by the next one; here it costs an id.
    rig = Rig(tmp_path, MemoryServer(guid_per_message=seed % 2 == 0))
    chance = random.Random(seed)
    for key in (b"A", b"A/x", b"B"):
        rig.server.create(key)
        for at in range(5):
            rig.deliver(f"{key.decode()} {at}", key)
    rig.sync()
    known = {box["id"] for box in rig.boxes().values()}

    def pause(name: str = "") -> None:
        for _ in range(chance.randrange(6)):
            gevent.sleep(0)

    def slowly(work: Callable[..., Any]) -> Callable[..., Any]:
        """The answer is older than it looks when it comes."""

        def call(*args: Any) -> Any:
            answer = work(*args)
            pause()
            return answer

        return call

    rig.source.before = pause
    rig.source.after = pause
    for name in ("folders", "changes"):
        setattr(rig.source, name, slowly(getattr(rig.source, name)))
    refused: list[Any] = []

    def passes() -> None:
        for _ in range(6):
            rig.sync()

    def folders() -> None:
        for at in range(6):
            ids = {name: box["id"] for name, box in rig.boxes().items()}
            one, two = ("A", "B") if "A" in ids else ("C", "D")
            names = {one: "C", two: "D"} if one == "A" else {one: "B", two: "A"}
            reply = rig.call(
                "Mailbox/set",
                create={"n": {"name": f"new {at}", "parentId": ids[two]}},
                update={ids[old]: {"name": new} for old, new in names.items()},
                destroy=[ids[f"new {at - 2}"]] if at > 1 else [],
                onDestroyRemoveEmails=True,
            )
            for _ in range(20):
                shown = {name: box["id"] for name, box in rig.boxes().items()}
                assert {new: shown.get(new) for new in names.values()} == {new: ids[old] for old, new in names.items()}
                gevent.sleep(0)
            refused.extend(reply[group] for group in ("notCreated", "notUpdated", "notDestroyed") if reply[group])
            rig.deliver(f"late {at}", chance.choice(sorted(rig.server.folders)))

    def emails() -> None:
        for _ in range(8):
            ids = sorted(rig.emails())
            boxes = sorted(box["id"] for box in rig.boxes().values() if box["name"] in ("Inbox", "x"))
            rig.call("Email/set", update={chance.choice(ids): {"mailboxIds": {chance.choice(boxes): True}}})
            gevent.sleep(0)

    workers = [gevent.spawn(one) for one in (passes, folders, emails)]
    gevent.joinall(workers, timeout=60)
    for worker in workers:
        assert worker.ready(), "they wait for each other"
        worker.get()
    rig.source.before = rig.source.after = None
    assert not refused
    rig.sync()
    rig.check()
    assert known <= {box["id"] for box in rig.boxes().values()}
    state = rig.store.state("Mailbox")
    rig.sync()
    assert rig.store.state("Mailbox") == state
    rig.close()
