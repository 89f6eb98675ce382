"""A real nginx in front of a service, with server blocks that the test gives."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import tempfile
from pathlib import Path

from jmapplug.testing.ports import accepts, stop, wait_until

CONFIG = """
daemon off;
user {user};
worker_processes 1;
pid {folder}/pid;
error_log {folder}/log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""


def program() -> str | None:
    """Where nginx is; None where it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class Nginx:
    """``servers``: text of server blocks that listen on ``port`` of 127.0.0.1."""

    def __init__(self, servers: str, port: int) -> None:
        self.port = port
        self.folder = Path(tempfile.mkdtemp(prefix="jpn-"))
        config = self.folder / "nginx.conf"
        config.write_text(CONFIG.format(user=getpass.getuser(), folder=self.folder, servers=servers))
        command = [program() or "nginx", "-e", str(self.folder / "log"), "-c", str(config)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: accepts(port), "nginx listens")
        except AssertionError as error:
            raise AssertionError((self.folder / "log").read_text()[-4000:]) from error

    def stop(self) -> None:
        stop(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)
