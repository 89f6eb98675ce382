"""A real Dovecot in a folder of its own: unprivileged, on free loopback ports, stopped by its pid."""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from jmapplug.testing.imap_server import ImapServer
from jmapplug.testing.ports import HOST, free_ports, greets, stop_pid, wait_until

DOMAIN = "example.org"
QUOTA = 1 << 30
SMALL_QUOTA = 1 << 20
KEEPER = f"keeper@{DOMAIN}"
PASSWORD = "secret"  # the rig's users all have it; nothing but loopback ever sees it

CONFIG = """
base_dir = {run}
state_dir = {folder}/state
instance_name = jmapplug-{imap}
listen = {host}
protocols = imap lmtp{sieve_protocol}{submission_protocol}
log_path = {folder}/log
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = {uid}
first_valid_gid = {gid}
service anvil {{
  chroot =
  client_limit = 8000
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  service_count = 0
  process_min_avail = 1
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service imap {{
  process_min_avail = 1
  service_count = 100
  process_limit = 3000
}}
service auth {{
  client_limit = 8000
}}
service imap-urlauth-login {{
  chroot =
}}
{sieve_service}
{submission_service}
lmtp_save_to_detail_mailbox = yes
service lmtp {{
  inet_listener lmtp {{
    address = {host}
    port = {lmtp}
  }}
}}
ssl = yes
ssl_cert = <{folder}/tls/cert.pem
ssl_key = <{folder}/tls/key.pem
ssl_dh =
disable_plaintext_auth = no
auth_mechanisms = plain login{oauth_mechanisms}
auth_failure_delay = 0
{oauth_passdb}
passdb {{
  driver = static
  mechanisms = plain login none
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%u
}}
mail_location = {format}:~/{format}
mail_fsync = never
mail_max_userip_connections = {connections}
mail_plugins = acl quota
protocol imap {{
  mail_plugins = $mail_plugins imap_acl imap_zlib imap_quota
}}
{sieve_plugin}
submission_host = {host}:{smtp}
plugin {{
  acl = vfile
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=%{{if;%n;*;small*;{small}B;{quota}B}}
}}
namespace inbox {{
  inbox = yes
  separator = {separator}
  prefix = {prefix}
  mailbox Drafts {{
    auto = subscribe
    special_use = \\Drafts
  }}
  mailbox Sent {{
    auto = subscribe
    special_use = \\Sent
  }}
  mailbox Trash {{
    auto = subscribe
    special_use = \\Trash
  }}
  mailbox Junk {{
    auto = subscribe
    special_use = \\Junk
  }}
  mailbox Archive {{
    auto = subscribe
    special_use = \\Archive
  }}
}}
{sharing}
lda_mailbox_autocreate = yes
postmaster_address = postmaster@{domain}
hostname = localhost
recipient_delimiter = +
"""

# What others share is below shared/<user>/; the public folders are nobody's own: KEEPER makes them. \\Seen is each
# reader's own.
SHARING = """plugin {{
  acl = vfile::cache_secs=1
  acl_shared_dict = file:{folder}/state/shared
  acl_anyone = allow
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/%%u/
  location = {format}:%%h/{format}:INDEXPVT=~/seen/%%u
  subscriptions = no
  list = {listed}
}}
namespace public {{
  type = public
  separator = {public_separator}
  prefix = "{public}"
  location = {format}:{folder}/public:INDEXPVT=~/seen/public
  subscriptions = no
  list = {listed}
}}
"""

SHARED = {
    "listed": {"listed": "children", "public": "public/", "public_separator": "/"},
    "apart": {"listed": "no", "public": "#public.", "public_separator": "."},
}

SIEVE_SERVICE = """service managesieve-login {{
  chroot =
  service_count = 0
  process_min_avail = 1
  inet_listener sieve {{
    port = {sieve}
  }}
}}
service managesieve {{
  process_limit = 100
}}
protocol sieve {{
  managesieve_max_line_length = 65536
}}
"""

# Takes mail from logged-in users, and hands it on to submission_host.
SUBMISSION_SERVICE = """service submission-login {{
  chroot =
  service_count = 0
  process_min_avail = 1
  inet_listener submission {{
    port = {submission}
  }}
}}
service submission {{
  process_limit = 100
}}
submission_relay_host = {host}
submission_relay_port = {smtp}
submission_max_mail_size = 50M
"""

OAUTH_PASSDB = """passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {folder}/oauth2.conf
}}
"""

# The token is asked for at each log-in: what has expired is refused at once. ("none", above: LMTP asks who there is.)
OAUTH = """introspection_mode = post
introspection_url = {url}
force_introspection = yes
active_attribute = active
active_value = true
username_attribute = username
"""

# What Sieve sends (vacation answers, redirects) goes to submission_host. The limits make tests of limits short.
SIEVE_PLUGIN = """protocol lmtp {{
  mail_plugins = $mail_plugins sieve
}}
plugin {{
  sieve = file:~/sieve;active=~/.dovecot.sieve
  sieve_extensions = +vacation-seconds +imapflags +editheader +special-use
  sieve_vacation_min_period = 0
  sieve_vacation_send_from_recipient = yes
  sieve_max_script_size = 256K
  sieve_quota_max_scripts = 12
}}
"""


def identity() -> tuple[str, str, int, int]:
    """The user that mail servers run as: never root, which they refuse to open mail for."""
    name = "nobody" if os.getuid() == 0 else getpass.getuser()
    entry = pwd.getpwnam(name)
    return name, grp.getgrgid(entry.pw_gid).gr_name, entry.pw_uid, entry.pw_gid


@dataclass(slots=True)
class Dovecot(ImapServer):
    """A running server; ``new_user()`` names accounts that exist as soon as they log in.

    ``sieve_port``: ManageSieve, 0 where Pigeonhole is not installed. ``submission_port``: SMTP submission with STARTTLS
    and AUTH PLAIN and LOGIN, 0 where it is not installed. ``smtp_port``: where Submission and Sieve hand over what they
    send (vacation answers, redirects); nothing listens there until somebody starts an SMTP server on it.
    ``quota``: octets that a user may store; users whose name begins with "small" may store ``small_quota``.
    """

    folder: Path
    port: int
    tls_port: int
    lmtp_port: int
    sieve_port: int = 0
    smtp_port: int = 0
    submission_port: int = 0
    quota: int = QUOTA
    small_quota: int = SMALL_QUOTA
    host: str = HOST
    password: str = PASSWORD
    _names: count[int] = field(default_factory=lambda: count(1))

    @property
    def ca_file(self) -> Path:
        return self.folder / "tls" / "cert.pem"

    def new_user(self, kind: str = "user") -> str:
        """A fresh account's login name, with nothing but the special-use folders. ``kind``: "small" for little room."""
        return f"{kind}{os.getpid()}x{next(self._names)}@{DOMAIN}"

    def stop(self) -> None:
        pid_file = self.folder / "run" / "master.pid"
        if pid_file.exists():
            stop_pid(int(pid_file.read_text()), "dovecot")
        shutil.rmtree(self.folder, ignore_errors=True)


def available() -> bool:
    """Whether Dovecot is installed here."""
    return _binary() is not None


def sieve_available() -> bool:
    """Whether Pigeonhole is installed too: Sieve in LMTP, and ManageSieve."""
    return any(Path(folder, "managesieve-login").is_file() for folder in _LIBEXEC)


def submission_available() -> bool:
    """Whether Dovecot's SMTP submission is installed too."""
    return any(Path(folder, "submission-login").is_file() for folder in _LIBEXEC)


_LIBEXEC = ("/usr/lib/dovecot", "/usr/libexec/dovecot", "/usr/local/libexec/dovecot")


def _binary() -> str | None:
    return shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def make_certificate(folder: Path) -> None:
    """A self-signed certificate for localhost, usable as its own CA."""
    folder.mkdir(parents=True, exist_ok=True)
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    kind = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        ["openssl", "req", *kind.split(), "-addext", names, "-addext", "basicConstraints=critical,CA:TRUE", *files],
        check=True,
        capture_output=True,
    )


def _sieve_parts(port: int) -> dict[str, str]:
    """The parts of the configuration that need Pigeonhole."""
    if not sieve_available():
        return {"sieve_protocol": "", "sieve_service": "", "sieve_plugin": ""}
    return {
        "sieve_protocol": " sieve",
        "sieve_service": SIEVE_SERVICE.format(sieve=port),
        "sieve_plugin": SIEVE_PLUGIN.format(),
    }


def _submission_parts(port: int, smtp: int) -> dict[str, str]:
    if not submission_available():
        return {"submission_protocol": "", "submission_service": ""}
    service = SUBMISSION_SERVICE.format(submission=port, smtp=smtp, host=HOST)
    return {"submission_protocol": " submission", "submission_service": service}


def _oauth_parts(folder: Path, url: str) -> dict[str, str]:
    if not url:
        return {"oauth_mechanisms": "", "oauth_passdb": ""}
    (folder / "oauth2.conf").write_text(OAUTH.format(url=url))
    return {"oauth_mechanisms": " oauthbearer xoauth2", "oauth_passdb": OAUTH_PASSDB.format(folder=folder)}


def start(
    format_: str = "sdbox",
    separator: str = "/",
    prefix: str = "",
    smtp_port: int | None = None,
    connections: int = 100,
    *,
    shared: str = "",
    oauth: str = "",
) -> Dovecot:
    """Start a server in a fresh short folder under the system's temporary folder (socket paths are limited).

    ``smtp_port``: see :class:`Dovecot`; None: a free one. ``connections``: so many a user may have from one address.
    ``shared``: with other users' folders and public ones, which LIST "*" tells ("listed"), or their prefixes alone
    ("apart"; the public ones have a separator of their own then). ``oauth``: the URL at which access tokens are looked
    up (RFC 7662), for OAUTHBEARER and XOAUTH2 beside passwords.
    """
    binary = _binary()
    assert binary, "dovecot is not installed"
    user, group, uid, gid = identity()
    folder = Path(tempfile.mkdtemp(prefix="jpd-"))
    imap, imaps, lmtp, sieve, smtp, submission = free_ports(6)
    smtp = smtp if smtp_port is None else smtp_port
    for name in ("run", "state", "mail"):
        (folder / name).mkdir()
    make_certificate(folder / "tls")
    parts = _sieve_parts(sieve) | _submission_parts(submission, smtp) | _oauth_parts(folder, oauth)
    sharing = ""
    if shared:
        sharing = SHARING.format(folder=folder, format=format_, **SHARED[shared])
        (folder / "public" / "mailboxes").mkdir(parents=True)
        (folder / "public" / "mailboxes" / "dovecot-acl").write_text(f"user={KEEPER} lrwstipekxa\n")
    config = folder / "dovecot.conf"
    config.write_text(
        CONFIG.format(
            folder=folder, run=folder / "run", host=HOST, imap=imap, imaps=imaps, lmtp=lmtp, user=user, group=group,
            uid=uid, gid=gid, password=PASSWORD, format=format_, separator=separator, prefix=prefix, domain=DOMAIN,
            smtp=smtp, quota=QUOTA, small=SMALL_QUOTA, connections=connections, sharing=sharing, **parts,
        )
    )  # fmt: skip
    command = [binary, "-c", str(config)]
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, uid, gid)
        command = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *command]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
    server = Dovecot(
        folder, imap, imaps, lmtp, sieve if sieve_available() else 0, smtp, submission if submission_available() else 0
    )
    wait_until(lambda: greets(imap), "dovecot greets")
    return server
