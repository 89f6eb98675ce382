"""The plugin manager: what is found, what is left out, what stops the start; and the commands that tell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jmapplug import Capability, Method, Setting, __version__, hookimpl, plugins
from jmapplug.errors import SettingError
from jmapplug.settings import SETTINGS

URN = "urn:example:note"


class Point:
    """An entry point; ``plugin`` is what it loads, or the error that its import raises."""

    def __init__(self, name: str, plugin: object) -> None:
        self.name, self._plugin = name, plugin

    def load(self) -> object:
        if isinstance(self._plugin, BaseException):
            raise self._plugin
        return self._plugin


def backend(kind: str) -> Any:
    return type("Backend", (), {"type": kind})


class Declares:
    """A plugin that declares what it is given."""

    def __init__(self, backends: Any = (), capabilities: Any = (), settings: Any = ()) -> None:
        self._declared = {"backends": backends, "capabilities": capabilities, "settings": settings}

    @hookimpl
    def register_backends(self) -> list[Any]:
        return list(self._declared["backends"])

    @hookimpl
    def register_capabilities(self) -> list[Any]:
        return list(self._declared["capabilities"])

    @hookimpl
    def register_settings(self) -> list[Any]:
        return list(self._declared["settings"])


def note(urn: str = URN, method: str = "Note/get", **more: Any) -> Capability:
    return Capability(urn, (Method(method, lambda call, args: {}, urn),), **more)


CLAIMS = {
    "backend type pigeon": lambda: (Declares([backend("pigeon")]), Declares([backend("pigeon")])),
    f"capability {URN}": lambda: (Declares((), [note()]), Declares((), [note(method="Note/set")])),
    "method Note/get": lambda: (Declares((), [note()]), Declares((), [note("urn:example:other")])),
    "blob prefix n": lambda: (
        Declares((), [note(blobs={"n": print})]),
        Declares((), [note("urn:example:other", "Other/get", blobs={"n": print})]),
    ),
    "setting NOTE_LIMIT": lambda: tuple(Declares((), (), [Setting("NOTE_LIMIT", int, "1", "")]) for _ in range(2)),
}


@pytest.mark.parametrize("what", CLAIMS)
def test_two_claims_to_one_thing_stop_the_start_with_a_message_that_names_both(what: str) -> None:
    one, two = CLAIMS[what]()
    with pytest.raises(SettingError) as caught:
        plugins.build(found=[Point("raven", one), Point("dove", two)])
    assert "raven" in str(caught.value)
    assert "dove" in str(caught.value)
    assert what in str(caught.value)


def test_a_plugin_cannot_take_a_built_in_method() -> None:
    with pytest.raises(SettingError, match=r"jmapplug\.capabilities\.core and raven .* Core/echo"):
        plugins.build(found=[Point("raven", Declares((), [note(method="Core/echo")]))])


def test_a_plugin_that_fails_to_import_is_named_and_left_out_and_the_rest_runs() -> None:
    broken = Point("broken", ImportError("no module named pigeon"))
    found = plugins.build(found=[broken, Point("sound", Declares([backend("pigeon")]))])
    assert found.failed == {"broken": "ImportError: no module named pigeon"}
    assert set(found.backends) == {"pigeon"}
    assert "Email/get" in found.methods


def test_a_plugin_whose_hook_has_wrong_arguments_is_left_out() -> None:
    class Wrong:
        @hookimpl
        def register_backends(self, colour: str) -> list[Any]:
            return [backend(colour)]

    found = plugins.build(found=[Point("wrong", Wrong())])
    assert "register_backends" in found.failed["wrong"]
    assert found.backends == {}


def test_a_plugin_that_fails_to_import_in_its_hook_is_left_out() -> None:
    """Ours imports its backend in the hook; a library that is missing there is an import that fails."""

    class Late:
        @hookimpl
        def register_backends(self) -> list[Any]:
            raise ImportError("no module named pigeon")

    found = plugins.build(found=[Point("late", Late())])
    assert "late" in found.failed
    assert "Email/get" in found.methods


def test_two_plugins_of_one_name_do_not_replace_each_other() -> None:
    same = [Point("pigeon", Declares([backend(kind)])) for kind in ("first", "second")]
    found = plugins.build(found=same)
    assert set(found.backends) == {"first"}
    assert "pigeon" in found.failed


def test_core_features_are_plugins_by_the_public_hooks() -> None:
    found = plugins.build(found=[])
    assert [name for name, _ in found.manager.list_name_plugin()] == list(plugins.BUILT_IN)
    assert plugins.build(built_in=(), found=[]).methods == {}


def test_every_method_belongs_to_the_capability_that_declares_it() -> None:
    for urn, capability in plugins.load().capabilities.items():
        assert {method.capability for method in capability.methods} <= {urn}


# --- through the command, with a stranger's package

MODULE = """
from jmapplug import Setting, hookimpl

class Pigeon:
    type = "pigeon"

@hookimpl
def register_backends():
    return [Pigeon]

@hookimpl
def register_settings():
    return [Setting("PIGEON_LOFT", str, "roof", "where pigeons live")]
"""


def package(folder: Path, name: str, text: str) -> None:
    """A package as pip would have installed it."""
    (folder / f"{name}.py").write_text(text)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    point = name.removeprefix("jmapplug_")
    (info / "entry_points.txt").write_text(f"[jmapplug]\n{point} = {name}\n")


def command(*arguments: str, environ: Mapping[str, str] | None = None, path: Path | None = None) -> Any:
    base = {name: value for name, value in os.environ.items() if name not in {each.env for each in SETTINGS}}
    env = {**base, **(environ or {}), **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run(
        [sys.executable, "-m", "jmapplug", *arguments], capture_output=True, text=True, timeout=60, env=env
    )


def test_a_package_of_a_stranger_is_found_by_its_entry_point(tmp_path: Path) -> None:
    package(tmp_path, "jmapplug_pigeon", MODULE)
    done = command("plugins", path=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "pigeon" in lines
    assert "backends: imap, pigeon" in lines


def test_a_package_that_fails_to_import_is_named_by_jmapplug_plugins(tmp_path: Path) -> None:
    package(tmp_path, "jmapplug_pigeon", "import a_module_that_is_not_there\n")
    done = command("plugins", path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^pigeon: LEFT OUT: ModuleNotFoundError: .*a_module_that_is_not_there", done.stdout, re.M)
    assert "backends: imap" in done.stdout.splitlines()


def test_a_second_claim_is_exit_status_2_and_one_line(tmp_path: Path) -> None:
    package(tmp_path, "jmapplug_pigeon", MODULE.replace('"pigeon"', '"imap"'))
    done = command("plugins", path=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "imap" in done.stderr
    assert "pigeon" in done.stderr


def test_jmapplug_plugins_lists_what_is_built_in() -> None:
    lines = command("plugins").stdout.splitlines()
    assert {"imap", "jmapplug.capabilities.core", "jmapplug.capabilities.mail", "backends: imap"} <= set(lines)
    assert "capabilities: " + ", ".join(sorted(plugins.load().capabilities)) in lines


def test_jmapplug_settings_shows_every_setting_and_no_secret(tmp_path: Path) -> None:
    package(tmp_path, "jmapplug_pigeon", MODULE)
    environ = {"JMAP_PORT": "9123", "JMAP_SECRET_KEY": "ab" * 32, "JMAP_MGMT_TOKEN": "hunter2"}
    done = command("settings", "--mgmt-port", "8123", environ=environ, path=tmp_path)
    assert done.returncode == 0, done.stderr
    for setting in SETTINGS:
        assert re.search(rf"^{setting.env}=", done.stdout, re.M), setting.env
    assert {"JMAP_PORT=9123", "JMAP_MGMT_PORT=8123", "PIGEON_LOFT=roof"} <= set(done.stdout.splitlines())
    assert "hunter2" not in done.stdout
    assert "abab" not in done.stdout


def test_jmapplug_settings_with_a_bad_value_is_exit_status_2_and_one_line() -> None:
    done = command("settings", environ={"JMAP_PORT": "http"})
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"jmapplug: JMAP_PORT[^\n]*\n", done.stderr)


def test_jmapplug_tells_its_version() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"jmapplug, version {__version__}\n")
