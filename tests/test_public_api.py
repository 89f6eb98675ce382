"""What authors of plugins import: complete, stable, and free of charge until used."""

from __future__ import annotations

import subprocess
import sys

import jmapplug

EXPECTED = {
    "AccountInfo", "Answered", "Appended", "Args", "AuthenticationError", "Backend", "Call", "Capability",
    "Changes", "Copied", "Delivery", "Detail", "EnvelopeAddress", "Features", "Folder", "HEADER_FIELDS",
    "hookimpl", "Item", "JmapplugError", "Limits", "MailSource", "Method", "MethodError", "NewMessage", "Part",
    "Quota", "QuotaSource", "Reply", "RequestError", "Rights", "Schema", "SearchTerm", "Session", "SetError",
    "Setting", "SettingError", "SetupError", "SieveFeatures", "SieveSource", "SubmissionFeatures",
    "SubmissionSource", "SyncPoint", "SyncService", "UpstreamError", "Watch",
}  # fmt: skip
HEAVY = {"gevent", "flask", "apsw", "dataset", "cryptography", "requests", "click", "selectolax", "dns"}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_these_and_no_others() -> None:
    assert set(jmapplug.__all__) == EXPECTED
    assert len(jmapplug.__all__) == len(EXPECTED)


def test_every_public_name_can_be_imported_and_is_shown_by_dir() -> None:
    for name in jmapplug.__all__:
        assert getattr(jmapplug, name) is not None
    assert set(jmapplug.__all__) <= set(dir(jmapplug))


def test_a_star_import_brings_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from jmapplug import *", names)
    assert set(names) - {"__builtins__"} == EXPECTED


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    assert not hasattr(jmapplug, "Nonsense")


def test_importing_jmapplug_imports_nothing_else_of_ours() -> None:
    loaded = python("import sys, jmapplug; print(*[name for name in sys.modules if name.startswith('jmapplug.')])")
    assert loaded.split() == []


def test_using_the_whole_public_api_imports_no_server_library() -> None:
    loaded = python("import sys\nfrom jmapplug import *\nprint(*{name.partition('.')[0] for name in sys.modules})")
    assert "msgspec" in loaded.split()
    assert not HEAVY & set(loaded.split())
