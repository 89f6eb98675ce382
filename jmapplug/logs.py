"""Logging: one line per event on stderr: time, level, logger; account and request ids, no content, no secrets."""

from __future__ import annotations

import json
import logging
import sys
import time

from jmapplug.workers import context

LINE = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"


class Text(logging.Formatter):
    """A line to read: the message, then ``request=…`` and ``account=…``; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__(LINE)

    def formatMessage(self, record: logging.LogRecord) -> str:
        # What an upstream said may have line ends in it, and would look like a line of ours.
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        ids = "".join(f" {name}={value}" for name, value in ids_now().items())
        return super().formatMessage(record) + ids


class Json(logging.Formatter):
    """An object in one line: time (RFC 3339, UTC), level, logger, pid, message, request, account, exception."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        seconds = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        facts = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
            **ids_now(),
        }
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(facts)


FORMATS: dict[str, type[logging.Formatter]] = {"text": Text, "json": Json}


def ids_now() -> dict[str, str]:
    """The ids of what is under way in this greenlet, those that there are."""
    found = {"request": context.request(), "account": context.account()}
    return {name: value for name, value in found.items() if value}


def configure(debug: bool, form: str = "text") -> None:
    """Send our log to stderr; the libraries' only from warning on. ``form``: a key of FORMATS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("jmapplug").setLevel(logging.DEBUG if debug else logging.INFO)
