"""Settings by environment and flag."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from jmapplug import plugins
from jmapplug.errors import SettingError
from jmapplug.settings import SETTINGS, Setting, load, prepare_datadir

DOCS = Path(__file__).parent.parent / "docs"


def test_defaults_are_the_documented_ones() -> None:
    settings = load({"JMAP_DATADIR": "/x"})
    assert (settings.jmap_port, settings.mgmt_port, settings.mgmt_host) == (9000, 8080, "127.0.0.1")
    assert (settings.idle_timeout, settings.sync_interval, settings.cors_origins) == (300, 30, ("*",))
    assert settings.baseurl == "http://localhost:9000"
    assert (settings.account_disk, settings.account_bandwidth) == (256_000_000, 0)


def test_a_flag_wins_over_the_environment() -> None:
    assert load({"JMAP_PORT": "1"}, {"JMAP_PORT": "2"}).jmap_port == 2


def test_an_idle_timeout_of_zero_stays_zero() -> None:
    assert load({"JMAP_IDLE_TIMEOUT": "0"}).idle_timeout == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("JMAP_PORT", "99999"), ("JMAP_PORT", "x"), ("JMAP_SECRET_KEY", "abc"), ("BASEURL", "ftp://x"),
     ("JMAP_TRUSTED_PROXIES", "not-a-network"), ("JMAP_IDLE_TIMEOUT", "-1"),
     ("JMAP_SYNC_INTERVAL", "0"), ("JMAP_ACCOUNT_DISK", "much"), ("JMAP_ACCOUNT_BANDWIDTH", "1.5M")],
)  # fmt: skip
def test_a_bad_value_is_one_line_naming_the_setting(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}[^\n]*$"):
        load({name: value})


@pytest.mark.parametrize(
    ("text", "octets"), [("500", 500), ("500k", 500_000), ("256M", 256_000_000), ("2G", 2 * 10**9)]
)
def test_octets_may_be_told_in_thousands(text: str, octets: int) -> None:
    settings = load({"JMAP_ACCOUNT_DISK": text, "JMAP_ACCOUNT_BANDWIDTH": text})
    assert settings.account_disk == settings.account_bandwidth == octets


def test_a_bad_secret_is_not_shown() -> None:
    with pytest.raises(SettingError) as caught:
        load({"JMAP_SECRET_KEY": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_management_port_off_loopback_needs_a_token() -> None:
    with pytest.raises(SettingError, match="JMAP_MGMT_TOKEN"):
        load({"JMAP_MGMT_HOST": "0.0.0.0"})
    assert load({"JMAP_MGMT_HOST": "0.0.0.0", "JMAP_MGMT_TOKEN": "t"}).mgmt_token == "t"


def test_another_process_loads_the_same_settings_from_the_environment() -> None:
    settings = load({"JMAP_PORT": "1234", "JMAP_SECRET_KEY": "ab" * 32, "JMAP_CORS_ORIGINS": "https://a, https://b"})
    assert load(settings.to_env()) == settings


def test_a_plugins_setting_is_read_beside_ours() -> None:
    settings = load({"ARCHIVE_LIMIT": "7"}, registered=[Setting("ARCHIVE_LIMIT", int, "5", "how many")])
    assert settings.extra == {"ARCHIVE_LIMIT": 7}


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_an_unwritable_data_folder_is_one_clear_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SettingError, match="JMAP_DATADIR"):
        prepare_datadir(load({"JMAP_DATADIR": str(tmp_path / "x")}))


def test_every_setting_is_documented() -> None:
    text = (DOCS / "settings.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z_]+)`", text, re.M))
    assert documented == {setting.env for setting in (*SETTINGS, *plugins.build(found=[]).settings)}


@pytest.mark.parametrize(
    ("name", "value"), [("JMAP_PUSH_CA", "/nowhere/ca.pem"), ("JMAP_PUSH_CONTACT", "ops@example.com")]
)
def test_a_bad_value_of_web_push_is_one_line_naming_the_setting(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}[^\n]*$"):
        load({name: value}, registered=plugins.build(found=[]).settings)


def test_web_push_into_private_networks_is_off_until_it_is_switched_on_and_so_for_other_processes() -> None:
    registered = plugins.build(found=[]).settings
    for given, wanted in ({}, False), ({"JMAP_PUSH_PRIVATE": "0"}, False), ({"JMAP_PUSH_PRIVATE": "1"}, True):
        settings = load({"JMAP_DATADIR": "/x", **given}, registered=registered)
        assert settings.extra["JMAP_PUSH_PRIVATE"] is wanted
        assert load(settings.to_env(), registered=registered).extra["JMAP_PUSH_PRIVATE"] is wanted
