"""Credentials at rest: the formats, the key, and what a wrong key or account gets."""

from __future__ import annotations

import base64
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.errors import SettingError
from jmapplug.registry.credentials import Vault, derive, load_key
from jmapplug.settings import load

KEY = bytes(range(32))


@given(st.text(max_size=100), st.text(max_size=20))
def test_what_was_encrypted_for_an_account_is_read_for_that_account(text, accountid):
    stored = Vault(KEY).encrypt(accountid, text)
    assert stored.startswith("enc2:")
    assert Vault(KEY).decrypt(accountid, stored) == text


def test_the_same_credential_looks_different_each_time():
    vault = Vault(KEY)
    assert vault.encrypt("a", "x") != vault.encrypt("a", "x")


def test_a_credential_moved_to_another_account_is_refused():
    with pytest.raises(SettingError):
        Vault(KEY).decrypt("bob", Vault(KEY).encrypt("alice", "secret"))


def test_the_older_format_is_read():
    nonce = os.urandom(12)
    stored = "enc1:" + base64.b64encode(nonce + AESGCM(KEY).encrypt(nonce, b"old secret", None)).decode()
    assert Vault(KEY).decrypt("alice", stored) == "old secret"


def test_another_key_is_named_as_the_reason():
    with pytest.raises(SettingError, match="another key"):
        Vault(bytes(32)).decrypt("alice", Vault(KEY).encrypt("alice", "secret"))


@pytest.mark.parametrize("stored", ["", "secret", "enc1:", "enc1:!!", "enc2:xx", "enc3:aa", "enc1:" + "A" * 20])
def test_what_is_no_credential_is_an_error_that_does_not_show_it(stored):
    with pytest.raises(SettingError) as caught:
        Vault(KEY).decrypt("alice", stored)
    assert "secret" not in str(caught.value)


def test_a_damaged_credential_is_refused():
    stored = Vault(KEY).encrypt("alice", "secret")
    broken = stored[:-6] + ("A" if stored[-6] != "A" else "B") + stored[-5:]
    with pytest.raises(SettingError):
        Vault(KEY).decrypt("alice", broken)


def test_a_missing_key_is_made_once_for_this_user_alone_and_said_in_one_line(tmp_path, caplog):
    settings = load({"JMAP_DATADIR": str(tmp_path)})
    first, second = load_key(settings), load_key(settings)
    assert first == second
    assert len(first) == 32
    assert os.stat(tmp_path / "secret.key").st_mode & 0o777 == 0o600
    assert len(caplog.records) == 1
    assert first.hex() not in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_a_key_file_without_a_key_stops_the_start(tmp_path):
    (tmp_path / "secret.key").write_text("rubbish")
    with pytest.raises(SettingError, match="64 hexadecimal digits"):
        load_key(load({"JMAP_DATADIR": str(tmp_path)}))


def test_the_setting_wins_over_the_file(tmp_path):
    load_key(load({"JMAP_DATADIR": str(tmp_path)}))
    assert load_key(load({"JMAP_DATADIR": str(tmp_path), "JMAP_SECRET_KEY": "AB" * 32})) == b"\xab" * 32


def test_keys_of_different_purposes_differ_and_stay_the_same():
    assert derive(KEY, "ticket") == derive(KEY, "ticket") != derive(KEY, "cookie")
    assert derive(KEY, "ticket") != KEY
