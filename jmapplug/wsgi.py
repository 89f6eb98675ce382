"""``gunicorn -k gevent -w 2 jmapplug.wsgi:app``: each gunicorn worker is a front of the same account workers."""

from __future__ import annotations

import os
import signal
from types import FrameType

from jmapplug import settings as settings_module
from jmapplug.errors import SettingError
from jmapplug.logs import configure
from jmapplug.plugins import load
from jmapplug.serve import fail, start_front
from jmapplug.web.app import create_app
from jmapplug.web.front import Front


def _end_streams_with_the_server(front: Front) -> None:
    """gunicorn waits for open streams; told to stop, this process ends them itself (process rule 9)."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        previous = signal.getsignal(number)

        def handle(received: int, frame: FrameType | None, previous: object = previous) -> None:
            front.stop()
            if callable(previous):
                previous(received, frame)

        signal.signal(number, handle)


def _front() -> Front:
    try:
        settings = settings_module.load(os.environ, registered=load().settings)
        configure(settings.debug, settings.log_format)
        return start_front(settings)
    except SettingError as error:
        fail(error)


_this_front = _front()
_end_streams_with_the_server(_this_front)
app = create_app(_this_front)
