"""The demo in the foreground: mail server, SMTP sink, two accounts, the proxy; Ctrl-C ends all of it."""

from __future__ import annotations

import imaplib
import json
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import gevent
import msgspec

from jmapplug.demo import mailserver, samples, smtpsink
from jmapplug.errors import SettingError
from jmapplug.settings import Settings

PASSWORD = "demo"  # noqa: S105 - printed on start; the servers listen on loopback only
ACCOUNTS = {"alice": "Alice Demo", "bob": "Bob Demo"}
DOMAIN = "demo.example"


def run(settings: Settings) -> None:
    """Start everything and stay until Ctrl-C; a second start finds the mail of the first."""
    from jmapplug.serve import serve

    if not all(find_spec(name) for name in ("pymap", "aiosmtpd")):
        raise SettingError("the demo's servers are not installed: pip install 'jmapplug[demo]'")
    folder = settings.datadir / "demo"
    imap_port, smtp_port = _ports(folder)
    filled = folder / "filled"  # written last: a first start that was interrupted begins anew
    fresh = not filled.exists()
    try:
        (folder / "mail").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"JMAP_DATADIR {str(settings.datadir)!r}: {error.strerror}") from None
    if fresh:
        shutil.rmtree(folder / "mail")
        for name in ACCOUNTS:
            mailserver.add_user(folder / "mail", f"{name}@{DOMAIN}", PASSWORD)
    imap = mailserver.start(folder / "mail", imap_port)
    sink = smtpsink.start(smtp_port, imap_port, DOMAIN, PASSWORD, frozenset(ACCOUNTS))
    try:
        if fresh:
            click.echo("Writing the sample mail (first start only) …")
            for name, full in ACCOUNTS.items():
                fill(imap_port, f"{name}@{DOMAIN}", full)
            filled.touch()
        proxy = msgspec.structs.replace(settings, datadir=folder / "proxy")
        serve(proxy, lambda ready: _announce(ready, imap_port, smtp_port))
    finally:
        sink.terminate()
        imap.terminate()
        sink.wait()
        imap.wait()


def _ports(folder: Path) -> tuple[int, int]:
    """The IMAP and SMTP ports of the last start if they are free, else new ones; remembered."""
    remembered = folder / "ports.json"
    try:
        ports = json.loads(remembered.read_text())
    except (OSError, ValueError):
        ports = [0, 0]
    found: list[int] = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((mailserver.HOST, port))
            except OSError:
                probe.bind((mailserver.HOST, 0))
            found.append(probe.getsockname()[1])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remembered.write_text(json.dumps(found))
    except OSError as error:
        raise SettingError(f"JMAP_DATADIR {str(folder.parent)!r}: {error.strerror}") from None
    return found[0], found[1]


def fill(port: int, user: str, name: str) -> None:
    """Put the sample mail into an account."""
    client = imaplib.IMAP4(mailserver.HOST, port, timeout=60)
    client.login(user, PASSWORD)
    made = {"INBOX"}
    for sample in samples.samples(user, name):
        levels = sample.folder.split("/")
        for folder in ("/".join(levels[: depth + 1]) for depth in range(len(levels))):
            if folder not in made:
                client.create(folder)
                client.subscribe(folder)
                made.add(folder)
        date = imaplib.Time2Internaldate(sample.received)
        client.append(sample.folder, " ".join(sample.flags), date, sample.message)
    client.logout()


def _announce(settings: Settings, imap_port: int, smtp_port: int) -> None:
    """Add the accounts through the management API, then say how to use them."""

    def work() -> None:
        for name in ACCOUNTS:
            account = {
                "accountid": name,
                "email": f"{name}@{DOMAIN}",
                "password": PASSWORD,
                "imapHost": mailserver.HOST,
                "imapPort": imap_port,
                "imapSSL": 0,
                "smtpHost": mailserver.HOST,
                "smtpPort": smtp_port,
                "smtpSSL": 0,
            }
            answer = _ensure(settings, account)
            if warning := answer.get("warning"):
                sys.stderr.write(f"account {name}: {warning}" + "\n")
        click.echo(_text(settings, imap_port, smtp_port))

    gevent.spawn(work)


def _ensure(settings: Settings, account: dict[str, Any]) -> dict[str, Any]:
    """Create the account; one that exists gets today's ports."""
    base = f"http://127.0.0.1:{settings.mgmt_port}/api/accounts"
    changes = {name: value for name, value in account.items() if name != "accountid"}
    steps: tuple[Callable[[], Any], ...] = (
        lambda: _send("POST", base, account, settings),
        lambda: _send("PATCH", f"{base}/{account['accountid']}", changes, settings),
    )
    deadline = time.monotonic() + 30
    while True:
        for step in steps:
            try:
                return dict(step())
            except urllib.error.HTTPError as error:
                if error.code != 409:
                    raise
            except urllib.error.URLError:
                # The management process may still be starting.
                if time.monotonic() > deadline:
                    raise
                gevent.sleep(0.1)
                break


def _send(method: str, url: str, body: dict[str, Any], settings: Settings) -> Any:
    headers = {"Content-Type": "application/json"}
    if settings.mgmt_token:
        headers["Authorization"] = f"Bearer {settings.mgmt_token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=90) as answer:  # noqa: S310
        return json.load(answer)


def _text(settings: Settings, imap_port: int, smtp_port: int) -> str:
    body = (
        '{"using":["urn:ietf:params:jmap:core","urn:ietf:params:jmap:mail"],'
        '"methodCalls":[["Mailbox/get",{"accountId":"alice","ids":null},"0"]]}'
    )
    return f"""
jmapplug demo is running.

  Session      {settings.baseurl}/session
  Management   http://127.0.0.1:{settings.mgmt_port}/api/accounts
  IMAP, SMTP   127.0.0.1:{imap_port}, 127.0.0.1:{smtp_port} (mail to alice@{DOMAIN} or bob@{DOMAIN} is delivered)
  Users        alice@{DOMAIN} and bob@{DOMAIN}, password {PASSWORD}

Try:

  curl -s -u alice@{DOMAIN}:{PASSWORD} -H 'Content-Type: application/json' {settings.baseurl}/jmap -d '{body}'

Ctrl-C ends it; the mail stays in {settings.datadir.parent / "mail"}.
"""
