#!/usr/bin/env bash
# The real servers that tests stand on: installed through apt where that is allowed, else named, with what is skipped.
set -u
PATH=$PATH:/usr/sbin:/sbin
missing=()
command -v dovecot >/dev/null || missing+=(dovecot-imapd dovecot-lmtpd)
[ -x /usr/lib/dovecot/managesieve-login ] || [ -x /usr/libexec/dovecot/managesieve-login ] \
  || missing+=(dovecot-sieve dovecot-managesieved)
[ -x /usr/lib/dovecot/submission-login ] || [ -x /usr/libexec/dovecot/submission-login ] || missing+=(dovecot-submissiond)
command -v nginx >/dev/null || missing+=(nginx)
command -v openssl >/dev/null || missing+=(openssl)
command -v setpriv >/dev/null || missing+=(util-linux)
bash "$(dirname "${BASH_SOURCE[0]}")/cyrus.sh" "${JMAPPLUG_CYRUS:-$(dirname "${BASH_SOURCE[0]}")/../.venv/cyrus}"
[ ${#missing[@]} -gt 0 ] || exit 0
as_root=()
if [ "$(id -u)" != 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n); else as_root=(false); fi
fi
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  echo "installing Debian packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
    && exit 0
fi
echo "MISSING Debian packages: ${missing[*]}"
echo "  apt-get install ${missing[*]}"
echo "  without them every test that needs a real Dovecot is skipped (the fixtures 'dovecot' and 'dovecot_maildir');"
echo "  without dovecot-sieve and dovecot-managesieved those about Sieve and vacation (the fixture 'dovecot_sieve'),"
echo "  without dovecot-submissiond those that send through Dovecot (the fixture 'dovecot_submission'),"
echo "  without nginx those of event streams and WebSockets behind it (the fixture 'needs_nginx')"
