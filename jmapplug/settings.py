"""Settings of the service: each is an environment variable, a flag and a line in docs/settings.md."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from jmapplug.errors import SettingError


class Settings(msgspec.Struct, frozen=True):
    """The service's settings, checked. ``extra`` holds what plugins registered, by environment name."""

    baseurl: str
    jmap_host: str
    jmap_port: int
    mgmt_host: str
    mgmt_port: int
    mgmt_token: str | None
    datadir: Path
    idle_timeout: int
    sync_interval: int
    hang_timeout: int
    secret_key: str | None
    cors_origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    log_format: str
    debug: bool
    account_disk: int
    account_bandwidth: int
    extra: dict[str, Any] = {}

    @property
    def run_folder(self) -> Path:
        return self.datadir / "run"

    def account_folder(self, account_id: str) -> Path:
        return self.datadir / "accounts" / account_id

    def to_env(self) -> dict[str, str]:
        """The environment that makes another process load the same settings."""
        values = {
            "BASEURL": self.baseurl,
            "JMAP_HOST": self.jmap_host,
            "JMAP_PORT": str(self.jmap_port),
            "JMAP_MGMT_HOST": self.mgmt_host,
            "JMAP_MGMT_PORT": str(self.mgmt_port),
            "JMAP_MGMT_TOKEN": self.mgmt_token,
            "JMAP_DATADIR": str(self.datadir),
            "JMAP_IDLE_TIMEOUT": str(self.idle_timeout),
            "JMAP_SYNC_INTERVAL": str(self.sync_interval),
            "JMAP_HANG_TIMEOUT": str(self.hang_timeout),
            "JMAP_SECRET_KEY": self.secret_key,
            "JMAP_CORS_ORIGINS": ",".join(self.cors_origins),
            "JMAP_TRUSTED_PROXIES": ",".join(self.trusted_proxies),
            "JMAP_LOG_FORMAT": self.log_format,
            "JMAP_ACCOUNT_DISK": str(self.account_disk),
            "JMAP_ACCOUNT_BANDWIDTH": str(self.account_bandwidth),
            "JMAP_DEBUG": "1" if self.debug else "",
        }
        return {name: value for name, value in values.items() if value} | {
            name: str(value) for name, value in self.extra.items() if value is not None
        }


def _text(value: str) -> str:
    return value.strip()


def _port(value: str) -> int:
    if not value.isdecimal() or not 0 <= int(value) <= 65535:
        raise ValueError("a port number from 0 to 65535 is needed")
    return int(value)


def _seconds(value: str) -> int:
    if not value.isdecimal() or int(value) > 10**9:
        raise ValueError("a number of whole seconds is needed")
    return int(value)


def _interval(value: str) -> int:
    if _seconds(value) < 1:
        raise ValueError("at least one second is needed")
    return int(value)


def count(value: str) -> int:
    """A limit: how many there may be of something."""
    if not value.isdecimal() or not 1 <= int(value) <= 100_000:
        raise ValueError("a number from 1 to 100000 is needed")
    return int(value)


def _octets(value: str) -> int:
    found = re.fullmatch(r"(\d{1,15})([kMG]?)", value.strip())
    if found is None:
        raise ValueError("a number of octets is needed, such as 500000, 500k, 256M or 2G")
    return int(found[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[found[2]]


def _flag(value: str) -> bool:
    return value.strip().lower() not in ("", "0", "no", "false", "off")


def _key(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError("64 hexadecimal digits are needed")
    return value.lower()


def _log_format(value: str) -> str:
    if value not in ("text", "json"):
        raise ValueError("text or json is needed")
    return value


def _list(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


def _networks(value: str) -> tuple[str, ...]:
    items = _list(value)
    for item in items:
        ipaddress.ip_network(item, strict=False)
    return items


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an http or https URL without query is needed")
    return value.rstrip("/")


def _path(value: str) -> Path:
    return Path(value).absolute()


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``parse`` raises ValueError with a message; ``default`` is text, or None = unset."""

    env: str
    parse: Callable[[str], Any]
    default: str | None
    help: str
    secret: bool = False

    @property
    def field(self) -> str:
        return self.env.lower() if self.env in ("BASEURL", "JMAP_HOST", "JMAP_PORT") else self.env[5:].lower()

    @property
    def flag(self) -> str:
        return "--" + self.field.replace("_", "-")


def default_datadir() -> str:
    """``/data`` in a container that has it, else ``./data``."""
    in_container = Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
    return "/data" if in_container and os.access("/data", os.W_OK) else "data"


SETTINGS: tuple[Setting, ...] = (
    Setting("BASEURL", _url, None, "public URL; goes into the Session [http://localhost:$JMAP_PORT]"),
    Setting("JMAP_HOST", _text, "", "address of the JMAP endpoint; empty = all interfaces"),
    Setting("JMAP_PORT", _port, "9000", "port of the JMAP endpoint"),
    Setting("JMAP_MGMT_HOST", _text, "127.0.0.1", "address of the management API"),
    Setting("JMAP_MGMT_PORT", _port, "8080", "port of the management API, health and metrics"),
    Setting("JMAP_MGMT_TOKEN", _text, None, "Bearer token of the management API; required off loopback", secret=True),
    Setting("JMAP_DATADIR", _path, None, "folder of all data [/data in a container, else ./data]"),
    Setting("JMAP_IDLE_TIMEOUT", _seconds, "300", "seconds without use before a worker ends; 0 = never"),
    Setting("JMAP_SYNC_INTERVAL", _interval, "30", "seconds between polls of what push does not cover"),
    Setting("JMAP_HANG_TIMEOUT", _seconds, "60", "seconds that a process may hang before it is replaced; 0 = never"),
    Setting("JMAP_SECRET_KEY", _key, None, "64 hex digits: key of stored credentials [made in the data folder]", True),
    Setting("JMAP_CORS_ORIGINS", _list, "*", "origins that may call from a browser, comma separated"),
    Setting("JMAP_TRUSTED_PROXIES", _networks, "", "addresses or networks whose X-Forwarded-* are believed"),
    Setting("JMAP_LOG_FORMAT", _log_format, "text", "lines of the log: text, or json (an object in each)"),
    Setting("JMAP_ACCOUNT_DISK", _octets, "256M", "octets of cached bodies that an account keeps (k, M, G)"),
    Setting("JMAP_ACCOUNT_BANDWIDTH", _octets, "0", "octets a second of an account's background sync; 0 = no limit"),
    Setting("JMAP_DEBUG", _flag, "", "debug logging"),
)
_OWN = frozenset(setting.env for setting in SETTINGS)


def load(
    environ: Mapping[str, str], overrides: Mapping[str, str | None] | None = None, registered: Iterable[Setting] = ()
) -> Settings:
    """Settings from the environment, ``overrides`` (environment name → text) first. Raises SettingError, one line."""
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for setting in (*SETTINGS, *registered):
        raw = given.get(setting.env, environ.get(setting.env) or setting.default)
        try:
            parsed = None if raw is None else setting.parse(raw)
        except ValueError as error:
            shown = "" if setting.secret else f" {raw!r}"
            raise SettingError(f"{setting.env}{shown}: {error}") from None
        (values if setting.env in _OWN else extra)[setting.field if setting.env in _OWN else setting.env] = parsed
    if values["datadir"] is None:
        values["datadir"] = _path(default_datadir())
    if values["baseurl"] is None:
        values["baseurl"] = f"http://localhost:{values['jmap_port']}"
    settings = Settings(**values, extra=extra)
    if settings.mgmt_token is None and not is_loopback(settings.mgmt_host):
        raise SettingError("JMAP_MGMT_TOKEN: required when JMAP_MGMT_HOST is not a loopback address")
    return settings


def is_loopback(host: str) -> bool:
    """Whether a host names this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def prepare_datadir(settings: Settings) -> None:
    """Make the data folder and its parts, private to this user. Raises SettingError.

    A full disk is no reason not to start: what is there can be read.
    """
    try:
        for folder in (settings.datadir, settings.run_folder, settings.datadir / "accounts"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = settings.datadir / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and settings.run_folder.is_dir():
            return
        raise SettingError(f"JMAP_DATADIR {str(settings.datadir)!r}: {error.strerror}") from None
