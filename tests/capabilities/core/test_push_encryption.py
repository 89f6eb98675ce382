"""RFC 8291 and RFC 8188 by their own examples and by another library; VAPID (RFC 8292)."""

from __future__ import annotations

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import http_ece  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.capabilities.core import push_encryption, vapid
from jmapplug.errors import SettingError
from jmapplug.testing.push_service import Device, Posted, base64url, check_vapid, from_base64url

AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
P256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
SENDER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl"
    "7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def test_the_example_of_rfc_8291_comes_out_octet_by_octet() -> None:
    key = ec.derive_private_key(int.from_bytes(from_base64url(SENDER), "big"), ec.SECP256R1())
    salt = from_base64url("DGv6ra1nlYgDCS1FRnbzlw")
    text = b"When I grow up, I want to be a watermelon"
    assert base64url(push_encryption.encrypt(text, P256DH, AUTH, salt=salt, private_key=key)) == BODY


def test_the_example_of_rfc_8188_comes_out_octet_by_octet() -> None:
    sealed = push_encryption.seal(
        b"I am the walrus", from_base64url("yqdlZ-tYemfogSmv7Ws5PQ"), from_base64url("I1BsxtFttlv3u_Oo94xnmw"), b""
    )
    assert base64url(sealed) == "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg"


@given(st.binary(max_size=push_encryption.LONGEST))
def test_another_library_reads_what_we_encrypt(plain: bytes) -> None:
    device = Device()
    body = push_encryption.encrypt(plain, device.keys["p256dh"], device.keys["auth"])
    assert http_ece.decrypt(body, private_key=device.private, auth_secret=device.auth, version="aes128gcm") == plain
    assert len(body) <= push_encryption.RECORD


def test_two_messages_share_neither_key_nor_salt() -> None:
    keys = Device().keys
    one, two = (push_encryption.encrypt(b"x", keys["p256dh"], keys["auth"]) for _ in range(2))
    assert one[:16] != two[:16]
    assert one[21:86] != two[21:86]


def test_what_does_not_fit_one_record_is_refused() -> None:
    with pytest.raises(ValueError, match="one record"):
        push_encryption.encrypt(bytes(push_encryption.LONGEST + 1), P256DH, AUTH)


OFF_CURVE = base64url(b"\x04" + b"\x01" * 64)


@pytest.mark.parametrize(
    ("p256dh", "auth"),
    [
        ("", AUTH),
        (P256DH[:-2], AUTH),
        (P256DH + "AA", AUTH),
        (OFF_CURVE, AUTH),
        (P256DH.replace("_", "/"), AUTH),
        (P256DH, ""),
        (P256DH, AUTH[:-3]),
        (P256DH, AUTH + "AAAA"),
        (P256DH, "é" * 22),
    ],
)
def test_keys_that_are_none_are_refused(p256dh: str, auth: str) -> None:
    with pytest.raises(ValueError):
        push_encryption.check_keys(p256dh, auth)


def test_keys_are_taken_with_and_without_padding() -> None:
    push_encryption.check_keys(P256DH, AUTH)
    push_encryption.check_keys(P256DH + "=", AUTH + "==")


# --- VAPID


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        ("https://push.example.com/a?b", "https://push.example.com"),
        ("https://push.example.com:443/", "https://push.example.com"),
        ("https://PUSH.example.com:8443/", "https://push.example.com:8443"),
        ("http://[::1]:80/x", "http://[::1]"),
    ],
)
def test_a_post_is_signed_for_its_push_service_alone(tmp_path: Path, url: str, audience: str) -> None:
    key = vapid.load(tmp_path)
    posted = Posted("/", {"authorization": key.authorization(url, 1000.5, "mailto:ops@example.com")}, b"")
    claims = check_vapid(posted, key.public)
    assert claims == {"aud": audience, "exp": 1000 + vapid.VALID, "sub": "mailto:ops@example.com"}
    assert vapid.VALID <= 24 * 3600


def test_the_contact_is_a_url_that_push_services_know_or_none(tmp_path: Path) -> None:
    key = vapid.load(tmp_path)
    for contact, told in (("https://mail.example.com", "https://mail.example.com"), ("http://localhost:9000", None)):
        posted = Posted("/", {"authorization": key.authorization("https://a/", time.time(), contact)}, b"")
        assert check_vapid(posted, key.public).get("sub") == told


def test_the_service_has_one_key_that_stays_and_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    first = vapid.load(tmp_path).public
    vapid.load.cache_clear()
    assert vapid.load(tmp_path).public == first
    assert stat.S_IMODE(os.stat(tmp_path / "vapid.key").st_mode) == 0o600
    assert len(from_base64url(first)) == 65
    assert [each.name for each in tmp_path.iterdir()] == ["vapid.key"]


def test_processes_that_make_the_key_at_once_end_with_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = {each.public for each in pool.map(lambda _: vapid.load.__wrapped__(tmp_path), range(8))}
    assert len(found) == 1


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_key_that_is_none_is_said_without_showing_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vapid.key").write_bytes(content)
    with pytest.raises(SettingError, match=r"vapid\.key: not a private key"):
        vapid.load(tmp_path)
