"""The documentation is complete: hooks, methods, settings and metrics are read from the code and looked up in docs/."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import msgspec
import pytest

from jmapplug import Limits, plugins
from jmapplug.hookspecs import Specs
from jmapplug.jmap import request
from jmapplug.settings import SETTINGS
from jmapplug.web.management import health

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = ("architecture", "decisions", "hooks", "methods", "operations", "settings")
PROCESSES = {"B": "every", "F": "front", "M": "management", "W": "worker"}
HOOKS = sorted(name for name, value in vars(Specs).items() if not name.startswith("_") and callable(value))


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def signature(hook: str) -> str:
    """``(cli: click.Group) -> None``, as a plugin's author writes it."""
    text = str(inspect.signature(getattr(Specs, hook)))
    return re.sub(r"\(self(, )?", "(", text).replace("'", "").replace("builtins.", "")


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_a_heading_with_its_signature_and_process(hook: str) -> None:
    letter = inspect.getdoc(getattr(Specs, hook))[0]
    assert f"\n### `{hook}{signature(hook)}`\nProcess: {PROCESSES[letter]}.\n" in page("hooks")


def test_no_hook_is_documented_that_does_not_exist() -> None:
    assert sorted(re.findall(r"^### `(\w+)\(", page("hooks"), re.M)) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test(hook: str) -> None:
    assert f"\ndef test_hook_{hook}(" in (ROOT / "tests" / "test_hooks.py").read_text()


def test_hooks_without_a_user_among_our_plugins_are_named_as_such() -> None:
    """A hook that a plugin of ours implements says so, and only then."""
    manager = plugins.load().manager
    unused = page("decisions").partition("## Hooks")[2]
    for hook in HOOKS:
        section = page("hooks").partition(f"### `{hook}(")[2].partition("\n#")[0]
        used = bool(getattr(manager.hook, hook).get_hookimpls())
        assert ("Used by" in section) == used, hook
        assert (f"`{hook}`" in unused) != used, hook


def test_the_methods_that_exist_are_the_methods_documented() -> None:
    rows = re.findall(r"^\| `(\w+/\w+)` \| `(\w+)` \| (\w+) \|", page("methods"), re.M)
    assert len(rows) == len({name for name, *_ in rows})
    assert set(rows) == {
        (method.name, method.capability.rpartition(":")[2], "writes" if method.writes else "reads")
        for method in plugins.load().methods.values()
    }


@pytest.mark.parametrize("setting", (*SETTINGS, *plugins.build(found=[]).settings), ids=lambda setting: setting.env)
def test_every_settings_row_tells_its_flag_and_default(setting: object) -> None:
    row = next(line for line in page("settings").splitlines() if line.startswith(f"| `{setting.env}` |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 4
    assert cells[1] == f"`{setting.flag}`"
    if setting.default:
        assert cells[2] == f"`{setting.default}`"
    assert cells[3].endswith(".")


def test_the_metrics_served_are_the_metrics_documented() -> None:
    documented = set(re.findall(r"^\| `(jmap_\w+?)(?:_total)?(?:\{[a-z,]+\})?` \|", page("operations"), re.M))
    source = Path(health.__file__).read_text()
    assert documented == set(re.findall(r'"(jmap_\w+?)(?:_total)?"', source))


def test_limits_are_told_as_they_are() -> None:
    limits = plugins.load().capabilities["urn:ietf:params:jmap:core"].server_value(Limits())
    text = page("methods").partition("## Limits")[2].partition("\n## ")[0]
    for name, value in limits.items():
        if isinstance(value, int):
            assert re.search(rf"(?<!\d){value:,}(?!\d)", text), name


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", *(f"docs/{each}.md" for each in PAGES)])
def test_links_between_our_pages_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, target


def test_every_page_is_reached_from_the_readme() -> None:
    assert {f"docs/{path.name}" for path in DOCS.glob("*.md")} <= set(
        re.findall(r"\]\((docs/[\w.]+)\)", (ROOT / "README.md").read_text())
    )


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"\bmake (\w+)", text))
    assert {"run", "test"} <= targets
    for target in targets - {"a", "it"}:
        assert re.search(rf"^{target}:", makefile, re.M), target
    assert text.index("make run") < text.index("make test") < text.index("\n## ")


def bodies(text: str) -> list[dict[str, object]]:
    """The JSON that curl sends with ``-d`` in a page's examples."""
    return [json.loads(body) for body in re.findall(r"-d '(\{.*?\})'", text, re.S)]


def test_the_readmes_examples_are_what_the_service_takes() -> None:
    account, *requests = bodies((ROOT / "README.md").read_text())
    found = plugins.load()
    settings = {name: value for name, value in account.items() if name not in ("accountid", "email")}
    backend = found.backends["imap"]
    assert set(settings) <= {field.encode_name for field in msgspec.structs.fields(backend.settings)}
    msgspec.convert(settings, backend.settings)
    assert requests
    for asked in requests:
        parsed = request.parse(json.dumps(asked).encode(), found.capabilities, Limits())
        assert {call.name for call in parsed.calls} <= set(found.methods)


@pytest.mark.parametrize("name", PAGES)
def test_python_in_our_pages_is_python(name: str) -> None:
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page(name), re.S)):
        compile(block, f"{name}.md block {number}", "exec")


def test_the_plugin_of_the_hooks_page_imports_public_names() -> None:
    import jmapplug

    names = re.findall(r"^from jmapplug import (.+)$", page("hooks"), re.M)
    assert names
    assert {name.strip() for line in names for name in line.split(",")} <= set(jmapplug.__all__)
