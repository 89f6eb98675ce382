"""``jmapplug demo`` as a built-in plugin."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jmapplug.hookspecs import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Adds ``demo``."""
    from jmapplug.cli import with_settings

    @cli.command()
    @with_settings
    def demo(**flags: str | None) -> None:
        """An embedded mail server with sample mail, and the proxy in front."""
        from jmapplug.cli import read_settings
        from jmapplug.demo.run import run
        from jmapplug.errors import SettingError
        from jmapplug.serve import fail

        try:
            run(read_settings(os.environ, flags))
        except SettingError as error:
            fail(error)
