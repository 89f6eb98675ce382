"""The laws of docs/architecture.md that a look at the source can hold: imports, SQL, names, lengths."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "jmapplug"
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|CREATE|DROP|ALTER|PRAGMA|BEGIN|COMMIT|ATTACH)\s")
LONGEST = 400

# part of the core → what it may import of ours ("" = itself only). A part that is not named here may import anything.
ALLOWED = {
    "jmap": (),
    "mime": (),
    "backends": ("mime", "errors"),
    "errors": ("jmap",),
    "waiting": (),
    "settings": ("errors",),
    "hookspecs": ("jmap", "backends", "settings"),
    "store": ("jmap", "errors", "hookspecs"),
    "capabilities": ("store", "waiting", "jmap", "mime", "backends", "errors", "hookspecs", "settings"),
    "push": ("jmap",),
    "registry": ("errors", "plugins", "settings", "workers"),
    "workers": ("jmap", "waiting", "errors", "backends", "hookspecs", "plugins", "settings", "store", "logs"),
    "web": ("workers", "waiting", "jmap", "push", "plugins", "hookspecs", "backends", "errors", "settings", "registry"),
}
# A capability that is made of another one's work (docs/decisions.md).
STANDS_ON = {"mdn": ("submission",), "vacationresponse": ("sieve",)}
# Pure: no sockets, no files, no server library. What they may use besides the standard library:
PURE = {"jmap": {"msgspec"}, "mime": {"msgspec", "selectolax"}}
IMPURE = re.compile(r"(socket|ssl|sqlite3|asyncio|threading|subprocess|select|http|urllib\.request|multiprocessing)\b")

# Known and to be mended; a row whose reason is gone fails the test.
IMPORT_EXCEPTIONS: dict[str, str] = {}
LENGTH_EXCEPTIONS: dict[str, str] = {}


def modules(folder: Path = CORE) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at any depth of its code, TYPE_CHECKING included."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part_of(module: str) -> str:
    """``jmapplug.jmap.errors`` → ``jmap``."""
    return module.split(".")[1] if "." in module else ""


def strings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("part", ALLOWED)
def test_arrows_point_one_way(part: str) -> None:
    """web → workers → jmap → capabilities → store, and capabilities → source; the engine imports only itself."""
    files = modules(CORE / part) or [CORE / f"{part}.py"]
    permitted = {part, *ALLOWED[part]}
    wrong = {
        f"{name_of(path)} imports {module}"
        for path in files
        for module in imports(path)
        if module.startswith("jmapplug.") and part_of(module) not in permitted
    }
    assert wrong == {each for each in IMPORT_EXCEPTIONS if re.match(rf"jmapplug/{part}[/.]", each)}


@pytest.mark.parametrize("part", PURE)
def test_the_engine_and_the_mime_package_are_pure(part: str) -> None:
    used = {module for path in modules(CORE / part) for module in imports(path)}
    packages = {module.partition(".")[0] for module in used} - {"jmapplug"}
    assert packages - sys.stdlib_module_names <= PURE[part]
    assert not [module for module in used if IMPURE.match(module)]


def test_capabilities_do_not_import_each_other() -> None:
    for path in modules(CORE / "capabilities"):
        own = path.relative_to(CORE / "capabilities").parts[0]
        for module in imports(path):
            if module.startswith("jmapplug.capabilities."):
                assert module.split(".")[2] in {own, *STANDS_ON.get(own, ())}, f"{name_of(path)} imports {module}"


def test_sql_is_only_in_stores() -> None:
    for path in modules():
        inside = path.relative_to(CORE)
        if inside.name == "store.py" or "store" in inside.parts or inside == Path("registry/database.py"):
            continue
        if inside.parts[0] == "testing":  # looks into stores from outside, on purpose
            continue
        found = [f"{name_of(path)}:{line}" for line, text in strings(path) if SQL.match(text)]
        assert not found, f"SQL outside a store: {found}"


def test_the_core_names_no_plugin_that_ships_beside_it() -> None:
    shipped = {path.parent.name for path in (ROOT / "plugins").glob("*/*/__init__.py")} - {"tests"}
    assert "jmapplug_imap" in shipped
    for path in modules():
        text = path.read_text()
        assert not [name for name in shipped if name in text], name_of(path)


def test_plugins_use_only_what_any_plugin_may_import() -> None:
    """A plugin that ships with us has no door that a stranger has not: contracts, errors, hooks, MIME, waiting."""
    public = {
        "",
        "__version__",
        "backends",
        "errors",
        "hookspecs",
        "mime",
        "settings",
        "jmap",
        "testing",
        "waiting",
    } | set(__import__("jmapplug").__all__)
    for path in modules(ROOT / "plugins"):
        if "tests" not in path.parts:
            used = {part_of(module) for module in imports(path) if module.split(".")[0] == "jmapplug"}
            assert used <= public, f"{name_of(path)} imports {used - public}"


def test_limits_are_counted_from_now() -> None:
    """gevent's own wait, iwait and joinall count from the loop's last look at the clock (jmapplug.waiting)."""
    for path in [*modules(), *modules(ROOT / "plugins")]:
        if path != CORE / "waiting.py" and "tests" not in path.parts:
            assert not re.search(r"\b(joinall|iwait|gevent\.wait)\([^\n]*timeout", path.read_text()), name_of(path)


def test_modules_are_short_enough_to_be_read() -> None:
    files = [*modules(), *(path for path in modules(ROOT / "plugins") if "tests" not in path.parts)]
    long = {name_of(path) for path in files if len(path.read_text().splitlines()) >= LONGEST}
    assert long == set(LENGTH_EXCEPTIONS)
