"""The IMAP backend, as a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jmapplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from jmapplug.backends import Backend


def preload() -> None:
    """In the zygote: everything that a worker's first connection would import or make. No hub, no thread."""
    from jmapplug_imap import backend, protocol

    assert backend  # with it comes every other module of this package
    protocol.default_context()


@hookimpl
def register_backends() -> list[type[Backend]]:
    """Type "imap"."""
    from jmapplug_imap.backend import ImapBackend

    return [ImapBackend]
