"""APPEND: files streamed to the server, many in one command where it can, and never a message twice (RFC 3502, 4315).

The end of an APPEND is kept back until the server has answered a STATUS of the target in the same write. So a
connection that was dead already costs nothing but a second attempt; one that breaks later is looked after on a new
connection, among the UIDs from that UIDNEXT on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from jmapplug.backends import Appended, NewMessage
from jmapplug.errors import UpstreamError
from jmapplug_imap import looking
from jmapplug_imap.access import Access
from jmapplug_imap.looking import UNSURE, Place
from jmapplug_imap.names import to_wire
from jmapplug_imap.protocol.commands import Command, Mailbox, Part, Upload
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.dialogue import Result
from jmapplug_imap.protocol.errors import CommandError, CommandNo
from jmapplug_imap.protocol.refusals import WAIT_CODES
from jmapplug_imap.protocol.responses import Exists
from jmapplug_imap.protocol.uidplus import append_uid

MESSAGES = 100  # in one command
OCTETS = 8_000_000  # in one command; a larger message goes alone
SLOWEST = 16 * 1024  # octets a second that are still waited for
GONE = frozenset({"trycreate", "nonexistent", "noperm"})
"""Codes that speak of the folder and not of a message."""
_FLAG = re.compile(r"\\?[^\x00-\x20(){%*\"\\\x7f-\U0010ffff]+\Z")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Appending:
    """Appends for one source."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def append(self, key: bytes, messages: Sequence[NewMessage]) -> list[Appended]:
        """See MailSource.append."""
        answers: list[Appended] = []
        for batch in self._batches(messages):
            last = answers[-1].error if answers else None
            if last is not None and last.code in WAIT_CODES:  # the server wants no more now
                answers += [Appended(error=last)] * len(batch)
                continue
            try:
                answers += self._batch(key, batch)
            except UpstreamError as error:
                if not any(answer.uid is not None for answer in answers):
                    raise
                answers += [Appended(error=error)] * len(batch)
        return answers

    def _batches(self, messages: Sequence[NewMessage]) -> Iterator[list[NewMessage]]:
        many = bool(messages) and len(messages) > 1 and self._access.has("MULTIAPPEND")
        batch: list[NewMessage] = []
        octets = 0
        for one in messages:
            if batch and (not many or len(batch) >= MESSAGES or octets + one.size > OCTETS):
                yield batch
                batch, octets = [], 0
            batch.append(one)
            octets += one.size
        if batch:
            yield batch

    def _batch(self, key: bytes, batch: list[NewMessage]) -> list[Appended]:
        """One answer each. Raises UpstreamError where the folder or the connection is to blame."""
        checked = [self._refusal(one) for one in batch]
        good = [one for one, error in zip(batch, checked, strict=True) if error is None]
        answers = iter(self._sent(key, good) if good else ())
        return [next(answers) if error is None else Appended(error=error) for error in checked]

    def _sent(self, key: bytes, batch: list[NewMessage]) -> list[Appended]:
        try:
            return self._command(key, batch)
        except CommandError as error:
            if error.code in GONE:
                raise
            if error.code in WAIT_CODES:
                return [Appended(error=error)] * len(batch)
            if len(batch) == 1:
                return [Appended(error=error)]
        except UpstreamError as error:
            if error.code == UNSURE:
                return [Appended(error=error)] * len(batch)
            raise
        # mail-rules 34: MULTIAPPEND is all or nothing; one by one tells which message it was.
        answers: list[Appended] = []
        for one in batch:
            try:
                answers += self._sent(key, [one])
            except UpstreamError as error:
                if not any(answer.uid is not None for answer in answers):
                    raise
                answers.append(Appended(error=error))
        return answers

    def _command(self, key: bytes, batch: list[NewMessage]) -> list[Appended]:
        job = _Append(self._access, key, batch)
        looking.settle(self._access, job)
        return job.answers

    def _refusal(self, one: NewMessage) -> UpstreamError | None:
        """What need not be sent to be refused."""
        limit = self._access.number("APPENDLIMIT")  # RFC 7889
        if limit is not None and one.size > limit:
            return UpstreamError("the message is larger than the server takes", code="toobig", temporary=False)
        try:
            flags(one.flags)
        except UpstreamError as error:
            return error
        if not self._access.has("BINARY") and has_nul(one.path):
            # RFC 9051 §4.3: NUL may not stand in a literal; RFC 3516 §4.4 has one in which it may.
            return UpstreamError("the server takes no message with NUL octets", code="cannot", temporary=False)
        return None


class _Append:
    """One APPEND command; see looking.Job."""

    def __init__(self, access: Access, key: bytes, batch: Sequence[NewMessage]) -> None:
        self._access, self._key, self._batch = access, key, batch
        self._where: Place | None = None
        self.begun = False
        self.answers: list[Appended] = []

    def work(self, connection: Connection) -> None:
        if self.begun:
            looking.look_twice(self, connection)
            return
        mailbox = Mailbox(to_wire(connection, self._key))
        command: list[Part] = ["APPEND", mailbox]
        for one in self._batch:
            command += _parts(one, connection.has("BINARY") and has_nul(one.path))
        timeout = connection.timeouts.command + sum(one.size for one in self._batch) / SLOWEST
        questions: list[Command] = [looking.status(connection, self._key)]
        try:
            result = connection.guarded(questions, command, self._learn, timeout=timeout)
        except CommandNo as error:
            self.begun = False
            if self._where is None and error.code is None:
                raise CommandNo(str(error), code="trycreate", temporary=False) from error
            raise
        if result.of(Exists):  # RFC 9051 §6.3.12: the folder is the open one, and its view shows the message
            connection.viewed_at = time.monotonic()
        self._read(connection, result)

    def look(self, connection: Connection) -> bool:
        """See looking.Job. All or nothing (RFC 3502): some of the messages alone are not ours."""
        uids = self._uids(connection)
        self._answer(uids)
        return None not in uids

    def _learn(self, outcomes: list[Result | CommandError]) -> None:
        self._where = looking.place(outcomes[0])
        self.begun = True

    def _read(self, connection: Connection, result: Result) -> None:
        told = append_uid(result)
        if told is not None and len(told.uids) == len(self._batch):
            self.answers = [Appended(uid, told.uidvalidity) for uid in told.uids]
            return
        self._answer(self._uids(connection))

    def _uids(self, connection: Connection) -> list[int | None]:
        if self._where is None:
            raise UpstreamError("the server does not tell where the message is", code=UNSURE)
        wanted = [looking.mark_of_file(one.path, one.size) for one in self._batch]
        return looking.arrived(self._access, connection, self._key, self._where, wanted)

    def _answer(self, uids: Sequence[int | None]) -> None:
        validity = self._where.uidvalidity if self._where else None
        lost = UpstreamError("the server took the message, but it cannot be found", code=UNSURE)
        self.answers = [
            Appended(uid, validity) if uid is not None else Appended(uidvalidity=validity, error=lost) for uid in uids
        ]


def _parts(one: NewMessage, binary: bool) -> list[Part]:
    """Flags, date and literal of one message."""
    parts: list[Part] = [flags(one.flags)] if one.flags else []
    if one.received_at is not None and (date := internal_date(one.received_at)):
        parts.append(date)
    return [*parts, Upload(one.path, one.size, binary)]


def flags(names: Sequence[str]) -> list[Part]:
    """Flags as parts of a command, each once. Raises UpstreamError("cannot") for what is no flag of IMAP."""
    found: dict[str, str] = {}
    for name in names:
        if not _FLAG.match(name):
            raise UpstreamError("not a flag that IMAP can keep", code="cannot", temporary=False)
        if name.lower() != "\\recent":
            found.setdefault(name.lower(), name)
    return list(found.values())


def internal_date(at: int) -> str:
    """RFC 9051 §9 date-time, quoted; "" for what the grammar cannot say."""
    try:
        when = time.gmtime(at)
    except (OverflowError, ValueError, OSError):
        return ""
    if not 1 <= when.tm_year <= 9999:
        return ""
    month = _MONTHS[when.tm_mon - 1]
    clock = f"{when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02}"
    return f'"{when.tm_mday:02}-{month}-{when.tm_year:04} {clock} +0000"'


def has_nul(path: Path) -> bool:
    """Whether a message has NUL octets."""
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                if b"\0" in block:
                    return True
    except OSError as error:
        raise UpstreamError("a message to send cannot be read", temporary=False) from error
    return False
