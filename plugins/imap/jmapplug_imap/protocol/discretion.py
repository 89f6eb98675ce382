"""A server's words on a command, without what is somebody's own in it: they end in logs and in ``status``. Pure.

Servers like to repeat the name of a folder, a keyword or a word that was searched for. We know what we have said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from jmapplug_imap.protocol import utf7
from jmapplug_imap.protocol.commands import Astring, Command, Mailbox, Part

LEAST = 3
"""Letters of a folder's level that is looked for by itself: servers write names with other separators, as paths."""
_LEVELS = re.compile(r"[/.\\]")
_FLAGGING = ("STORE", "APPEND")


def discreet(text: str, commands: Iterable[Command], selected: bytes | None) -> str:
    """``text`` with "…" for what the commands named, and for the folder that is open."""
    if not text:
        return text
    words = {word for command in commands for word in _words(command)} | set(_names(selected or b""))
    for word in sorted(words - {""}, key=len, reverse=True):
        if word.upper() != "INBOX":
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "…", text, flags=re.IGNORECASE)
    return text


def _words(command: Command) -> Iterator[str]:
    flags = str(command[0]).upper().endswith(_FLAGGING)
    for part in command:
        yield from _of(part, flags)


def _of(part: Part, flags: bool) -> Iterator[str]:
    if isinstance(part, Mailbox):
        yield from _names(part.key)
    elif isinstance(part, Astring):
        yield part.value if isinstance(part.value, str) else part.value.decode("utf-8", "replace")
    elif isinstance(part, (list, tuple)):
        for each in part:
            if flags and isinstance(each, str) and not each.startswith("\\"):
                yield each
            yield from _of(each, flags)


def _names(key: bytes) -> Iterator[str]:
    """A folder's name as it is on the wire and as it is read, whole and by its levels."""
    for name in (key.decode("utf-8", "replace"), utf7.decode(key)):
        yield name
        yield from (level for level in _LEVELS.split(name) if len(level) >= LEAST)
