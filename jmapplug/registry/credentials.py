"""Credentials at rest: AES-256-GCM under the service's key (formats ``enc2:``, and ``enc1:`` for reading).

``enc2:<key id>:<base64>``: nonce (12 octets), ciphertext, tag (16), with the account's id as associated data, so that a
stored credential is good for its own account only. ``enc1:<base64>`` is the same without associated data and key id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jmapplug.errors import SettingError
from jmapplug.settings import Settings

log = logging.getLogger("jmapplug.registry")

KEY_FILE = "secret.key"
_NONCE = 12
_HEX = re.compile(r"[0-9a-fA-F]{64}")


def load_key(settings: Settings) -> bytes:
    """The service's 32-octet key: JMAP_SECRET_KEY, else ``secret.key`` in the data folder, made when missing.

    Raises SettingError for a file that cannot be read or holds no key.
    """
    if settings.secret_key:
        return _parse(settings.secret_key, "JMAP_SECRET_KEY")
    path = settings.datadir / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        return _parse(path.read_text("ascii").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a key"
        raise SettingError(f"{path}: {why}") from None


def _parse(text: str, where: str) -> bytes:
    if not _HEX.fullmatch(text):
        raise SettingError(f"{where}: 64 hexadecimal digits are needed")
    return bytes.fromhex(text)


def _make(path: Path) -> None:
    """Write a new key and only then give it its name: of two processes at once, one wins and both read its key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{KEY_FILE}-{os.getpid()}-{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
        log.warning("made a key for stored credentials: %s (back it up; without it they cannot be read)", path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


def derive(key: bytes, purpose: str) -> bytes:
    """A 32-octet key for one purpose (tickets, cookies …), by HKDF-SHA256. No purpose's key tells another's."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"jmapplug " + purpose.encode()).derive(key)


class Vault:
    """Encrypts and decrypts credentials with one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._key_id = hashlib.sha256(b"jmapplug key id" + key).hexdigest()[:8]

    def encrypt(self, accountid: str, text: str) -> str:
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), accountid.encode())
        return f"enc2:{self._key_id}:{base64.b64encode(sealed).decode()}"

    def decrypt(self, accountid: str, stored: str) -> str:
        """The credential. Raises SettingError for another key, another account or a damaged text; shows none of it."""
        kind, _, rest = stored.partition(":")
        if kind == "enc2":
            key_id, _, rest = rest.partition(":")
            if key_id != self._key_id:
                raise SettingError(f"the credentials of {accountid} were stored under another key (id {key_id[:8]})")
            return self._open(accountid, rest, accountid.encode())
        if kind == "enc1":
            return self._open(accountid, rest, None)
        raise SettingError(f"the credentials of {accountid} are stored in a format that is not known")

    def _open(self, accountid: str, encoded: str, data: bytes | None) -> str:
        try:
            sealed = base64.b64decode(encoded, validate=True)
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], data).decode()
        except (binascii.Error, InvalidTag, ValueError):
            raise SettingError(f"the credentials of {accountid} cannot be decrypted") from None
