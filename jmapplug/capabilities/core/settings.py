"""Settings of web push, through the hook that any plugin has."""

from __future__ import annotations

import os

from jmapplug.settings import Setting, count


def _flag(value: str) -> bool:
    return value.strip().lower() not in ("", "0", "no", "false", "off")


def _file(value: str) -> str:
    if not os.path.isfile(value):
        raise ValueError("there is no such file")
    return os.path.abspath(value)


def _contact(value: str) -> str:
    """RFC 8292 §2.1: a mailto: or an https: URI."""
    if not value.startswith(("mailto:", "https://")) or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a mailto: or https: URL is needed")
    return value


SETTINGS = (
    Setting("JMAP_PUSH_PRIVATE", _flag, "", "web push may go to http and to private addresses"),
    Setting("JMAP_PUSH_CA", _file, None, "PEM file of authorities trusted for web push, beside the system's"),
    Setting("JMAP_PUSH_CONTACT", _contact, None, "mailto: or https: URL that push services are told"),
    Setting("JMAP_PUSH_SUBSCRIPTIONS", count, "32", "push subscriptions that a login may have"),
)
