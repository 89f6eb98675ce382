"""Which script is in force, when a vacation response runs beside the user's own one.

ManageSieve has one active script. Words: the *vacation* script is ours, by its name; the *master* is ours too: it
includes the vacation script and then the user's own (RFC 6609), and is the active one upstream while both run. Clients
never see the master: for them the user's script, which it includes, is the active one. The vacation script comes first
because ``stop`` in an included script ends everything.

A script under the master's name that is not word for word what we write is the user's own, and is never touched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jmapplug.backends import SieveSource
from jmapplug.capabilities.sieve.reading import commands, includes, quoted

VACATION = "jmapplug-vacation"
MASTER = "jmapplug"
RESERVED = frozenset({VACATION, MASTER})
_HEAD = (
    "# Made by jmapplug while a vacation response is on: it runs that, then your own script.\r\n"
    "# Change your own script and not this one, which is replaced and removed without asking.\r\n"
    'require ["include"];\r\n'
)


class Blocked(Exception):
    """The user's script and the vacation response cannot run together; the text says why."""


@dataclass(frozen=True, slots=True)
class View:
    """The scripts upstream at one moment. ``active``: the upstream's own word."""

    contents: dict[str, bytes]
    active: str | None

    @property
    def included(self) -> tuple[str, ...] | None:
        """What the master includes beside the vacation script; None where there is no master of ours."""
        content = self.contents.get(MASTER)
        return None if content is None else parse_master(content)

    @property
    def user(self) -> str | None:
        """The user's own script that runs; None where none does."""
        if self.active == MASTER and (names := self.included) is not None:
            return next((name for name in names if name in self.contents), None)
        return None if self.active == VACATION else self.active

    @property
    def shown(self) -> str | None:
        """The one that clients see as active."""
        return self.user or (VACATION if self.vacation_runs else None)

    @property
    def vacation_runs(self) -> bool:
        """Whether the vacation script is run for each message, whatever it says."""
        if self.active is None or VACATION not in self.contents:
            return False
        return self.active == VACATION or VACATION in includes(self.contents.get(self.active, b""))

    @property
    def visible(self) -> list[str]:
        """The names that clients see."""
        return sorted(name for name in self.contents if name != MASTER or self.included is None)

    def put(self, name: str, content: bytes) -> View:
        return replace(self, contents={**self.contents, name: content})

    def without(self, name: str) -> View:
        return replace(self, contents={key: value for key, value in self.contents.items() if key != name})

    def renamed(self, old: str, new: str) -> View:
        contents = {new if name == old else name: value for name, value in self.contents.items()}
        return View(contents, new if self.active == old else self.active)


def master(*names: str) -> bytes:
    """The script that runs the vacation script and then these. ``:optional``: one that is gone stops nothing."""
    lines = (f"include :personal :optional {quoted(name)};\r\n" for name in (VACATION, *names))
    return (_HEAD + "".join(lines)).encode()


def parse_master(content: bytes) -> tuple[str, ...] | None:
    """The names that :func:`master` was given; None for anything that it did not make."""
    names = includes(content)
    plain = content.replace(b"\r\n", b"\n").strip()
    if not names or names[0] != VACATION or plain != master(*names[1:]).replace(b"\r\n", b"\n").strip():
        return None
    return names[1:]


# --- plan, then apply


@dataclass(frozen=True, slots=True)
class Step:
    """One change upstream: "write" (name, content), "activate" (name or None), "delete" (name)."""

    verb: str
    name: str | None
    content: bytes = b""


def plan(view: View, user: str | None, vacation: bool, extensions: frozenset[str]) -> list[Step]:
    """What makes ``user`` (None: no script) run, and the vacation script beside it or not. Raises Blocked.

    In every state between two steps the user's script runs as it did or as it shall.
    """
    target = user
    steps: list[Step] = []
    if vacation and user is None:
        target = VACATION
    elif vacation and user is not None and VACATION not in includes(view.contents.get(user, b"")):
        check_fit(view, user, extensions)
        target = MASTER
        content = master(user)
        if view.contents.get(MASTER) != content:
            steps.append(Step("write", MASTER, content))
    if view.active != target:
        steps.append(Step("activate", target))
    if target != MASTER and view.included is not None:
        steps.append(Step("delete", MASTER))
    return steps


def check_fit(view: View, user: str, extensions: frozenset[str]) -> None:
    """Raises Blocked where the user's script cannot run together with the vacation script."""
    if "include" not in extensions or user not in view.contents:
        raise Blocked(
            "Your own Sieve script is active, and this mail server cannot run a vacation response beside it"
            " (it lacks the Sieve extension include). Deactivate the script first."
        )
    if MASTER in view.contents and view.included is None:
        raise Blocked(f"A Sieve script of your own has the name {MASTER}, which is needed here. Rename it first.")
    # RFC 5230 §4.7: a second vacation action is an error at run time, and would cost the user his other rules.
    if "vacation" in commands(view.contents[user]):
        raise Blocked("Your active Sieve script has a vacation rule of its own. Remove that first.")


def apply(source: SieveSource, view: View, steps: list[Step]) -> View:
    """Do the steps upstream; the view then. Raises UpstreamError."""
    for step in steps:
        if step.verb == "write" and step.name is not None:
            source.write(step.name, step.content)
            view = view.put(step.name, step.content)
        elif step.verb == "delete" and step.name is not None:
            source.delete(step.name)
            view = view.without(step.name)
        else:
            source.activate(step.name)
            view = replace(view, active=step.name)
    return view
