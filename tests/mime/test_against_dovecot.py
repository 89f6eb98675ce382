"""Our sections and types are those that a real IMAP server gives (rule: who made a structure must not matter)."""

from __future__ import annotations

import pwd
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mime_corpus import SHAPES

from jmapplug.mime.structure import parse

pytestmark = pytest.mark.skipif(
    shutil.which("doveadm") is None or shutil.which("setpriv") is None, reason="needs dovecot-core and util-linux"
)

_PIECES = [
    b"\r\n--b\r\n", b"\r\n--bb\r\n", b"\r\n--b--\r\n", b"\r\n--bb--\r\n", b"\r\n--d\r\n", b"\r\n--bbb\r\n", b"--b\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", b"Content-Type: multipart/alternative; boundary=bb\r\n\r\n",
    b"Content-Type: multipart/digest; boundary=d\r\n\r\n", b"Content-Type: message/rfc822\r\n\r\n",
    b"Content-Type: text/html\r\n\r\n", b"Content-Transfer-Encoding: base64\r\n", b"text\r\n", b"X: y\r\n", b"\r\n",
    b"--",
]  # fmt: skip


def _messages() -> dict[str, bytes]:
    # Not compared: what holds no type at all, and how deep is too deep (Dovecot stops one level elsewhere).
    left_out = {"unreadable type", "depth"}
    messages = {name: data for name, data in SHAPES.items() if 0 < len(data) < 20_000 and name not in left_out}
    draw = random.Random(8621)
    for number in range(300):
        pieces = draw.choices(_PIECES, k=draw.randint(1, 30))
        messages[f"random {number}"] = b"Subject: x\r\n" + draw.choice(_PIECES[7:9]) + b"".join(pieces)
    return messages


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that the user "nobody" may enter: Dovecot reads no mail as root."""
    with tempfile.TemporaryDirectory(prefix="dovecot-") as name:
        yield Path(name)


def _structures(folder: Path, messages: dict[str, bytes]) -> dict[str, str]:
    """BODYSTRUCTURE of each message, as doveadm prints it."""
    for name in ("cur", "new", "tmp"):
        (folder / "Maildir" / name).mkdir(parents=True)
    for number, data in enumerate(messages.values()):
        (folder / "Maildir/cur" / f"{10**9 + number}.M{number}.test:2,").write_bytes(data)
    config = folder / "dovecot.conf"
    settings = {"mail_location": f"maildir:{folder}/Maildir", "base_dir": f"{folder}/run", "log_path": f"{folder}/log"}
    config.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()) + "ssl = no\n")
    command = ["doveadm", "-c", str(config), "fetch", "uid imap.bodystructure", "all"]
    if Path("/proc/self").owner() == "root":
        nobody = pwd.getpwnam("nobody")
        subprocess.run(["chown", "-R", "nobody", str(folder)], check=True)
        command = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *command]
        user = "nobody"
    else:
        user = Path("/proc/self").owner()
    environment = {"HOME": str(folder), "USER": user, "PATH": "/usr/bin:/usr/sbin:/bin:/sbin"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    printed = re.findall(r"uid: (\d+)\nimap\.bodystructure: ([^\f]*)", done.stdout.decode("latin-1"))
    names = list(messages)
    return {names[int(uid) - 1]: text for uid, text in printed}


def _read(text: str) -> list:
    stack: list[list] = [[]]
    for token in re.findall(r'[()]|"(?:[^"\\]|\\.)*"|[^\s()"]+', text):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token.strip('"').lower())
    return stack[0]


def _outline(body: list, section: str) -> list[tuple[str, str]]:
    if not isinstance(body[0], list):
        return [(section or "1", f"{body[0]}/{body[1]}")]
    count = next(at for at, item in enumerate(body) if not isinstance(item, list))
    found = [(section, f"multipart/{body[count]}")]
    for number, child in enumerate(body[:count], 1):
        found += _outline(child, f"{section}.{number}" if section else str(number))
    return found


def test_dovecot_finds_the_same_parts_in_every_shape(folder):
    messages = _messages()
    structures = _structures(folder, messages)
    assert len(structures) == len(messages)
    for name, data in messages.items():
        ours = [(part.section, part.type) for part in parse(data).walk()]
        assert ours == _outline(_read(structures[name]), ""), (name, data)
