"""Where the parts of a message are: one pass over the lines that begin with "--", offsets only.

Words: an *entity* is a message or a body part, header and body. The *open* entities are those that the place being read
lies in, outermost first. As IMAP servers do: the innermost open multipart with a boundary takes the line, and inside an
attached message its own boundaries count (its parts are *hidden*: RFC 8621 §4.1.4 makes the message a leaf).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

from jmapplug.mime.headers import header_end, headless

Data = bytes | mmap.mmap

# RFC 2046 §5.1.1 allows 70 octets; longer ones are seen.
MAX_BOUNDARY = 1_000
_WINDOW = 4_096


class Entity:
    """``header <= body <= end`` are offsets. The reader of its header sets the rest: ``boundary`` of a multipart
    (None: it names none), ``message`` where the body is a message, ``fields`` for its own use.
    ``deep`` says that it stood too deep to be opened, ``closed`` that its closing delimiter was seen."""

    __slots__ = ("body", "boundary", "children", "closed", "deep", "end", "fields", "header", "message", "parent")

    def __init__(self, header: int, parent: Entity | None) -> None:
        self.header = self.body = self.end = header
        self.parent = parent
        self.children: list[Entity] = []
        self.boundary: bytes | None = None
        self.message = self.deep = self.closed = False
        self.fields: Any = None


class Splitter:
    """Cuts ``data`` into entities; ``describe(entity)`` reads the header of each as it is found.

    At most ``max_parts`` entities: the last one holds the rest. Below ``max_depth`` nothing is opened.
    """

    def __init__(self, data: Data, max_parts: int, max_depth: int, describe: Callable[[Entity], None]) -> None:
        self.data, self.size = data, len(data)
        self.left, self.max_depth = max_parts, max_depth
        self.describe = describe
        self.open: list[Entity] = []
        # boundary -> places in self.open, innermost last
        self.awaited: dict[bytes, list[int]] = {}
        # Its keys, as long as they do not change.
        self.names: tuple[bytes, ...] | None = None

    def run(self) -> Entity:
        """The root, with its tree below it."""
        root = Entity(0, None)
        at = self.enter(root)
        find, data = self.data.find, self.data
        while self.awaited and (at := find(b"\n--", max(at, 0))) >= 0:
            name, closing, after = self.delimiter(at + 1)
            if name is None:
                at += 3
                continue
            # RFC 2046 §5.1.1: the line end before a delimiter belongs to it.
            end = at - 1 if at and data[at - 1 : at] == b"\r" else at
            place = self.awaited[name][-1]
            if not closing and self.left <= 0:
                break
            self.leave(place + 1, end)
            multipart = self.open[place]
            if closing:
                # What follows is an epilogue, up to a delimiter of an outer multipart.
                self.forget(multipart)
                multipart.closed = True
                at = after - 1
            else:
                child = Entity(after, multipart)
                multipart.children.append(child)
                at = self.enter(child)
        self.leave(0, self.size)
        return root

    def enter(self, entity: Entity) -> int:
        """Opens an entity; where to look for the next delimiter."""
        self.left -= 1
        entity.body = self.body_of(entity)
        self.describe(entity)
        place = len(self.open)
        self.open.append(entity)
        if place >= self.max_depth:
            entity.boundary, entity.deep = None, True
        elif entity.boundary is not None:
            self.awaited.setdefault(entity.boundary, []).append(place)
            self.names = None
        elif entity.message and self.left > 0:
            return self.enter(Entity(entity.body, entity))
        return entity.body - 1

    def body_of(self, entity: Entity) -> int:
        """A header ends with its empty line, or where a delimiter cuts it off."""
        end, body = self.header_of(entity)
        return entity.header if headless(self.data, entity.header, end) else body

    def header_of(self, entity: Entity) -> tuple[int, int]:
        if not self.awaited:
            return header_end(self.data, entity.header, self.size)
        at, window = entity.header - 1, _WINDOW
        while True:
            # In windows that grow: what has no empty line is not read to the end of the message for each part.
            stop = min(entity.header + window, self.size)
            end, body = header_end(self.data, entity.header, stop)
            while (found := self.data.find(b"\n--", at, end)) >= 0:
                if self.delimiter(found + 1)[0] is not None:
                    cut = max(found, entity.header)
                    return cut, cut
                at = found + 3
            if end < stop or stop == self.size:
                return end, body
            at, window = max(at, end - 2), window * 2

    def delimiter(self, at: int) -> tuple[bytes | None, bool, int]:
        """(awaited boundary or None, whether it closes, offset behind the line) of the line that begins here."""
        line = self.data[at : at + MAX_BOUNDARY + 4]
        stop = line.find(b"\n")
        after = at + stop + 1 if stop >= 0 else min(at + len(line), self.size)
        name = line[2:stop].rstrip(b" \t\r") if stop >= 0 else line[2:].rstrip(b" \t\r")
        if name in self.awaited:
            return name, False, after
        if self.names is None:
            self.names = tuple(self.awaited)
        if not name.startswith(self.names):
            return None, False, after
        # RFC 2046 §5.1.1: the beginning of the line decides, and of two boundaries the longer one.
        found = max((known for known in self.names if name.startswith(known)), key=len)
        return found, name.startswith(b"--", len(found)), after

    def leave(self, place: int, end: int) -> None:
        """Closes what is open from this place on, also what never saw its own closing line."""
        while len(self.open) > place:
            entity = self.open.pop()
            entity.end = max(end, entity.body)
            self.forget(entity)

    def forget(self, entity: Entity) -> None:
        """No delimiter of this entity is awaited any more."""
        if entity.boundary is not None:
            places = self.awaited[entity.boundary]
            places.pop()
            if not places:
                del self.awaited[entity.boundary]
                self.names = None
            entity.boundary = None
