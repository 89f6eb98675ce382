"""What every worker needs, imported once in the zygote: plugins, SQLite, TLS (process rules 2, 5, 7).

Not here: Flask, authlib, requests, dataset. They belong to the front and to ``__accounts__`` alone.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import socket

from jmapplug import plugins
from jmapplug.logs import configure
from jmapplug.settings import Settings
from jmapplug.workers import plain

# What gevent, the standard library and our own packages would import at first use, in each worker again.
MODULES = (
    "apsw",
    "encodings.idna",
    "gevent.event",
    "gevent.lock",
    "gevent.queue",
    "gevent.resolver.thread",
    "gevent.select",
    "gevent.signal",
    "gevent.socket",
    "gevent.ssl",
    "gevent.threadpool",
    "gevent.timeout",
    "jmapplug.jmap.dispatch",
    "jmapplug.jmap.request",
    "jmapplug.store.account",
    "jmapplug.workers.worker",
    "ssl",
    "stringprep",
)


YOUNG = 5_000
"""New objects after which the collector looks at them: a batch of 100 Emails makes as many, and none in a circle."""


def load(settings: Settings) -> plugins.Plugins:
    """Import everything; each backend's ``preload()``, where it has one, makes what its sessions share (TLS contexts).

    Leaves no hub and no thread behind: raises AssertionError otherwise.
    """
    configure(settings.debug, settings.log_format)
    # urllib3 tries an IPv6 socket when it is imported, which under gevent's patch makes a hub.
    ipv6, socket.has_ipv6 = socket.has_ipv6, False
    try:
        found = plugins.load()
        for name in MODULES:
            importlib.import_module(name)
    finally:
        socket.has_ipv6 = ipv6
    for backend in found.backends.values():
        warm = getattr(backend, "preload", None)
        if warm is not None:
            warm()
    plain.assert_no_hub()
    share_code()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    return found


_MADV_POPULATE_READ = 22  # Linux 5.14; elsewhere it fails and nothing is lost


def share_code() -> None:
    """Map the code of shared libraries here: a page that the zygote maps too is not a worker's own, and faults less."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps]
    for fields in lines:
        if len(fields) == 6 and "w" not in fields[1] and ".so" in fields[5]:
            start, end = (int(number, 16) for number in fields[0].split("-"))
            libc.madvise(start, end - start, _MADV_POPULATE_READ)
