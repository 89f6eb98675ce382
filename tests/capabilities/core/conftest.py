"""Puts the rig beside the tests that use it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from push_rig import Rig

from jmapplug.capabilities.core import pusher
from jmapplug.testing.push_service import PushService


@pytest.fixture
def push_service() -> Iterator[PushService]:
    service = PushService()
    yield service
    service.stop()


@pytest.fixture
def rig(tmp_path: Path, push_service: PushService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(pusher, "COALESCE", 0.02)
    monkeypatch.setattr(pusher, "GAP", 0.01)
    made = Rig(tmp_path, push_service)
    yield made
    made.close()
