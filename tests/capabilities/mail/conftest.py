"""Puts the rigs beside the tests that use them."""

import sys
from pathlib import Path

import pytest

from jmapplug.capabilities.mail import previews

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine leaves no preview out; tests of lateness set their own."""
    monkeypatch.setattr(previews, "DEADLINE", 60.0)
