"""The ``jmapplug`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jmapplug import __version__
from jmapplug import plugins as plugin_manager
from jmapplug import settings as settings_module
from jmapplug.errors import JmapplugError, SettingError
from jmapplug.logs import configure
from jmapplug.settings import SETTINGS, Settings

if TYPE_CHECKING:
    import click

PATCHED = ("serve", "demo", "token")


def main() -> None:
    """Entry point. The patch comes before anything that opens sockets."""
    if sys.argv[1:2] and sys.argv[1] in PATCHED:
        from gevent import monkey

        monkey.patch_all()
    from jmapplug.serve import fail

    try:
        group = build()
    except SettingError as error:
        fail(error)
    group(prog_name="jmapplug")


def read_settings(environ: Mapping[str, str], flags: Mapping[str, str | None]) -> Settings:
    """Settings from the environment, flags first; a bad one ends the process with one line and status 2."""
    from jmapplug.serve import fail

    overrides = {each.env: flags.get(each.field) for each in SETTINGS}
    try:
        return settings_module.load(environ, overrides, plugin_manager.load().settings)
    except SettingError as error:
        fail(error)


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a flag for every setting."""
    import click

    for each in reversed(SETTINGS):
        command = click.option(each.flag, each.field, default=None, help=f"{each.help} (${each.env})")(command)
    return command


def build() -> click.Group:
    """The click group, with the commands of plugins. Raises SettingError when two plugins claim one thing."""
    import click

    plugins = plugin_manager.load()

    @click.group(context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__, prog_name="jmapplug")
    def cli() -> None:
        """JMAP in front of any IMAP server."""

    @cli.command()
    @with_settings
    def serve(**flags: str | None) -> None:
        """Serve JMAP and the management API."""
        from jmapplug.serve import fail
        from jmapplug.serve import serve as run

        given = read_settings(os.environ, flags)
        configure(given.debug, given.log_format)
        try:
            run(given, lambda s: click.echo(f"jmapplug: {s.baseurl}, management on port {s.mgmt_port}", err=True))
        except SettingError as error:
            fail(error)

    @cli.command()
    @with_settings
    def settings(**flags: str | None) -> None:
        """Every setting with its present value (secrets are not shown)."""
        given = read_settings(os.environ, flags)
        for each in (*SETTINGS, *plugins.settings):
            value = getattr(given, each.field, given.extra.get(each.env))
            text = ",".join(value) if isinstance(value, tuple) else value
            shown = "" if text is None else "(set)" if each.secret else text
            click.echo(f"{each.env}={shown}\n    {each.help}")

    @cli.command(name="plugins")
    def list_plugins() -> None:
        """What is loaded, and what was left out."""
        for name, _ in sorted(plugins.manager.list_name_plugin()):
            click.echo(name)
        for name, why in plugins.failed.items():
            click.echo(f"{name}: LEFT OUT: {why}")
        click.echo("backends: " + (", ".join(sorted(plugins.backends)) or "none"))
        click.echo("capabilities: " + ", ".join(sorted(plugins.capabilities)))

    @cli.group()
    def token() -> None:
        """Tokens of accounts."""

    @token.command(name="create")
    @click.argument("account")
    @click.option("--name", default="command line", help="what the token is for")
    @click.option("--days", type=click.IntRange(1, 36500), default=None, help="expires after so many days")
    @with_settings
    def token_create(account: str, name: str, days: int | None, **flags: str | None) -> None:
        """Make a token for ACCOUNT and print it, once."""
        from jmapplug.serve import create_token

        try:
            click.echo(create_token(read_settings(os.environ, flags), account, name, days))
        except JmapplugError as error:
            raise click.ClickException(str(error)) from None

    plugins.manager.hook.register_commands(cli=cli)
    return cli
