"""Logging: one line per event on stderr: time, level, logger; account and request ids, no content, no secrets."""

from __future__ import annotations

import logging
import sys


def configure(debug: bool) -> None:
    """Send our log to stderr; the libraries' only from warning on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("jmapplug").setLevel(logging.DEBUG if debug else logging.INFO)
