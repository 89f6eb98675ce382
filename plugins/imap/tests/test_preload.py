"""What the zygote does for its workers, and the options of a socket."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from jmapplug_imap.backend import ImapBackend
from jmapplug_imap.protocol import transport

WARM = """
import gevent.monkey; gevent.monkey.patch_all()
import sys, threading
from jmapplug_imap import register_backends
(backend,) = register_backends()
backend.preload()
from jmapplug.workers import plain
plain.assert_no_hub()
assert threading.active_count() == 1
from jmapplug_imap.protocol import transport
assert transport.default_context.cache_info().currsize == 1
assert "http.client" not in sys.modules  # only accounts with OAuth need it
before = set(sys.modules)
from jmapplug_imap.settings import ImapSettings
session = backend().open(ImapSettings(imapHost="127.0.0.1", imapPort=int(sys.argv[1]), imapSSL=0, password="x"), "a@b")
try:
    session.mail.folders()
except Exception as error:
    print(type(error).__name__)
assert transport.default_context() is transport.context(None)
print(sorted(name for name in set(sys.modules) - before if name.startswith("jmapplug")))
"""


def test_the_zygote_has_everything_and_makes_no_hub() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused
        done = subprocess.run(
            [sys.executable, "-c", WARM, str(nobody.getsockname()[1])],
            capture_output=True,
            text=True,
            timeout=180,
            cwd=Path(__file__).parents[3],
            env={"PYTHONPATH": "plugins/imap:."},
        )
    assert done.stdout.split("\n")[:2] == ["ConnectionBroken", "[]"], done.stderr
    assert callable(ImapBackend.preload)


def test_a_connection_is_kept_alive_through_a_nat() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire = transport.connect("127.0.0.1", server.getsockname()[1], 5)
        raw = wire._socket
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        # Heard from within five minutes (RFC 5382: a NAT may forget after 124 minutes; real ones after five).
        assert 0 < raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 300
        assert 0 < raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) <= 60
        assert 2 <= raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) <= 10
        wire.close()
