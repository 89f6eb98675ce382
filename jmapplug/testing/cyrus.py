"""A real Cyrus IMAP 3.6 in a folder of its own: unprivileged, on free loopback ports, stopped by its pid.

Its programs are unpacked, not installed, so that it can stand beside Dovecot: tests/cyrus.sh puts them below the
virtual environment; ``JMAPPLUG_CYRUS`` names another folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from jmapplug.testing.dovecot import DOMAIN, PASSWORD, identity
from jmapplug.testing.imap_server import ImapServer
from jmapplug.testing.ports import HOST, free_ports, greets, stop, wait_until

QUOTA = 1 << 30

IMAPD_CONF = """
cyrus_user: {user}
cyrus_group: {group}
servername: localhost
defaultdomain: localhost
virtdomains: userid
admins: admin
configdirectory: {folder}/config
partition-default: {folder}/spool
defaultpartition: default
sievedir: {folder}/sieve
proc_path: {folder}/proc
mboxname_lockpath: {folder}/lock
idlesocket: {folder}/socket/idle
notifysocket: {folder}/socket/notify
lmtpsocket: {folder}/socket/lmtp
altnamespace: yes
unixhierarchysep: yes
allowplaintext: yes
sasl_mech_list: PLAIN LOGIN
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {folder}/sasldb2
lmtp_downcase_rcpt: yes
autocreate_users: anyone
autocreate_post: yes
autocreate_quota: {quota}
autocreate_inbox_folders: Drafts|Sent|Trash|Junk|Archive
autocreate_subscribe_folders: Drafts|Sent|Trash|Junk|Archive
xlist-drafts: Drafts
xlist-sent: Sent
xlist-trash: Trash
xlist-junk: Junk
xlist-archive: Archive
specialusealways: yes
crossdomains: yes
conversations: yes
delete_mode: immediate
expunge_mode: immediate
savedate: yes
duplicatesuppression: no
httpmodules: jmap
maxmessagesize: 209715200
"""

CYRUS_CONF = """
START {{
  recover cmd="{bin}/ctl_cyrusdb -C {folder}/imapd.conf -r"
}}
SERVICES {{
  imap  cmd="{bin}/imapd -C {folder}/imapd.conf -U 30" listen="{host}:{imap}" prefork=2 maxchild=100
  lmtp  cmd="{bin}/lmtpd -C {folder}/imapd.conf -a" listen="{host}:{lmtp}" prefork=0 maxchild=20
  sieve cmd="{bin}/timsieved -C {folder}/imapd.conf" listen="{host}:{sieve}" prefork=0 maxchild=20
{more}}}
EVENTS {{
  checkpoint cmd="{bin}/ctl_cyrusdb -C {folder}/imapd.conf -c" period=180
}}
DAEMON {{
  idled cmd="{bin}/idled -C {folder}/imapd.conf"
}}
"""
JMAP_SERVICE = '  http cmd="{bin}/httpd -C {folder}/imapd.conf" listen="{host}:{jmap}" prefork=1 maxchild=20\n'
FOLDERS = (
    "config", "config/db", "config/socket", "config/log", "config/msg", "config/ptclient", "spool", "sieve", "proc",
    "lock", "socket",
)  # fmt: skip


@dataclass(slots=True)
class Cyrus(ImapServer):
    """A running server: QRESYNC and OBJECTID, no NOTIFY. ``quota``: octets that each user may store.

    ``jmap_port``: of its own JMAP, where that was asked for.
    """

    folder: Path
    port: int
    lmtp_port: int
    sieve_port: int
    process: subprocess.Popen[bytes]
    host: str = HOST
    password: str = PASSWORD
    quota: int = QUOTA
    jmap_port: int = 0
    _names: count[int] = field(default_factory=lambda: count(1))

    def new_user(self) -> str:
        """A fresh account's login name; its first login makes the special-use folders."""
        local = f"cyrus{os.getpid()}x{next(self._names)}"
        _add_password(self.folder, local, DOMAIN)
        user = f"{local}@{DOMAIN}"
        self.imap(user).logout()
        return user

    def stop(self) -> None:
        stop(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


def programs() -> Path:
    """Where Cyrus is unpacked."""
    return Path(os.environ.get("JMAPPLUG_CYRUS") or Path(sys.prefix, "cyrus"))


def available() -> bool:
    """Whether Cyrus is unpacked here (tests/cyrus.sh)."""
    return (programs() / "ready").exists()


def speaks_jmap() -> bool:
    """Whether its HTTP daemon is unpacked too (Debian's cyrus-caldav and what that needs; tests/cyrus.sh leaves it)."""
    return available() and (programs() / "usr/lib/cyrus/bin/httpd").exists()


def _environment(folder: Path) -> dict[str, str]:
    root = folder / "programs"
    libraries = [str(path) for path in (*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu"))]
    return {
        "PATH": os.environ.get("PATH", ""),
        "LD_LIBRARY_PATH": ":".join(libraries),
        "SASL_PATH": ":".join(str(path) for path in root.glob("usr/lib/*-linux-gnu/sasl2")),
    }


def _as_user(*command: str) -> list[str]:
    """The command as an unprivileged user, where we are root."""
    _, _, uid, gid = identity()
    drop = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"] if os.getuid() == 0 else []
    return [*drop, *command]


def _add_password(folder: Path, local: str, domain: str) -> None:
    command = [str(folder / "programs/usr/sbin/saslpasswd2"), "-f", str(folder / "sasldb2"), "-p", "-c", "-u", domain]
    subprocess.run(
        _as_user(*command, local), input=PASSWORD.encode(), env=_environment(folder), check=True, capture_output=True
    )


def start(jmap: bool = False) -> Cyrus:
    """Start a server in a fresh folder under the system's temporary folder; with its own JMAP where asked for."""
    assert available(), "cyrus is not unpacked"
    user, group, uid, gid = identity()
    folder = Path(tempfile.mkdtemp(prefix="jpc-"))
    folder.chmod(0o755)
    # A copy: the user that it runs as may not reach where we are.
    shutil.copytree(programs(), folder / "programs", symlinks=True)
    for name in FOLDERS:
        (folder / name).mkdir()
    imap, lmtp, sieve, http = free_ports(4)
    binaries = folder / "programs/usr/lib/cyrus/bin"
    more = JMAP_SERVICE.format(bin=binaries, folder=folder, host=HOST, jmap=http) if jmap else ""
    (folder / "imapd.conf").write_text(IMAPD_CONF.format(folder=folder, user=user, group=group, quota=QUOTA // 1024))
    (folder / "cyrus.conf").write_text(
        CYRUS_CONF.format(folder=folder, bin=binaries, host=HOST, imap=imap, lmtp=lmtp, sieve=sieve, more=more)
    )
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                os.chown(path, uid, gid)
    _add_password(folder, "admin", "localhost")
    master = [str(folder / "programs/usr/sbin/cyrmaster"), "-C", str(folder / "imapd.conf")]
    log = open(folder / "log", "ab")  # noqa: SIM115 - the child keeps it
    # A session of its own: at its end Cyrus signals its whole process group.
    process = subprocess.Popen(
        _as_user(*master, "-M", str(folder / "cyrus.conf"), "-p", str(folder / "master.pid")),
        env=_environment(folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    server = Cyrus(folder, imap, lmtp, sieve, process, jmap_port=http if jmap else 0)
    try:
        wait_until(lambda: greets(imap), "cyrus greets")
    except AssertionError:
        server.stop()
        raise
    return server
