#!/usr/bin/env bash
# Cyrus IMAP beside Dovecot: Debian's package conflicts with dovecot-imapd, so nothing is installed. The packages are
# unpacked into a folder of ours, with those libraries that this machine has not got. Needs apt-get and dpkg, not root.
#   tests/cyrus.sh FOLDER     quick and harmless when it was done before
set -u
folder=$1
ready=$folder/ready
[ -e "$ready" ] && exit 0
give_up() {
  echo "MISSING: Cyrus ($1)"
  echo "  without it the tests of the fixture 'cyrus' are skipped"
  exit 0
}
command -v apt-get >/dev/null && command -v dpkg >/dev/null || give_up "no apt-get here"
[ "$(uname -m)" = x86_64 ] || [ "$(uname -m)" = aarch64 ] || give_up "unknown machine $(uname -m)"

work=$(mktemp -d /tmp/jmapplug-cyrus-XXXXXX) || give_up "no temporary folder"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/debs" "$work/root"
chmod 777 "$work" "$work/debs"

fetch() { # packages: download, and unpack
  rm -f "$work"/debs/*
  (cd "$work/debs" && apt-get download -qq "$@") >"$work/log" 2>&1 || return 1
  local deb
  for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/root" || return 1; done
}

missing() { # the libraries that nobody has
  local here
  here=$(ls -d "$work"/root/usr/lib/*-linux-gnu "$work"/root/lib/*-linux-gnu 2>/dev/null | tr '\n' ':')
  for each in "$work"/root/usr/lib/cyrus/bin/{imapd,lmtpd,timsieved,ctl_cyrusdb,idled} "$work"/root/usr/sbin/{cyrmaster,saslpasswd2}; do
    LD_LIBRARY_PATH=$here ldd "$each" 2>/dev/null | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p'
  done | sort -u
}

core=(cyrus-imapd cyrus-common sasl2-bin libsasl2-2 libsasl2-modules libsasl2-modules-db)
if ! fetch "${core[@]}"; then
  # The lists of packages may be missing or old; renewing them needs root.
  if [ "$(id -u)" = 0 ]; then apt-get update -qq; elif command -v sudo >/dev/null; then sudo -n apt-get update -qq; fi 2>/dev/null
  fetch "${core[@]}" || give_up "cannot download: $(tail -1 "$work/log")"
fi
declare -A package=(
  [libical.so.3]=libical3 [libpcreposix.so.3]=libpcre3 [libpcre.so.3]=libpcre3 [libxapian.so.30]=libxapian30
  [libicuuc.so.72]=libicu72 [libicui18n.so.72]=libicu72 [libicudata.so.72]=libicu72 [libjansson.so.4]=libjansson4
  [libxml2.so.2]=libxml2 [libwrap.so.0]=libwrap0 [libsqlite3.so.0]=libsqlite3-0 [libnsl.so.2]=libnsl2
  [libtirpc.so.3]=libtirpc3 [libdb-5.3.so]=libdb5.3 [libssl.so.3]=libssl3 [libcrypto.so.3]=libssl3
  [libstdc++.so.6]=libstdc++6 [libgssapi_krb5.so.2]=libgssapi-krb5-2 [libkrb5.so.3]=libkrb5-3
  [libk5crypto.so.3]=libk5crypto3 [libkrb5support.so.0]=libkrb5support0 [libkeyutils.so.1]=libkeyutils1
  [libcom_err.so.2]=libcom-err2 [libcrypt.so.1]=libcrypt1 [libz.so.1]=zlib1g [libuuid.so.1]=libuuid1
  [libldap-2.5.so.0]=libldap-2.5-0 [liblber-2.5.so.0]=libldap-2.5-0
)
for _ in 1 2 3 4 5 6 7 8; do
  absent=$(missing)
  [ -n "$absent" ] || break
  wanted=()
  for name in $absent; do
    [ -n "${package[$name]:-}" ] || give_up "no package is known for $name"
    wanted+=("${package[$name]}")
  done
  fetch $(printf '%s\n' "${wanted[@]}" | sort -u) || give_up "cannot download: $(tail -1 "$work/log")"
done
[ -z "$(missing)" ] || give_up "libraries are missing: $(missing | tr '\n' ' ')"
rm -rf "$work/root/usr/share" "$work/root/etc" "$folder"
mkdir -p "$(dirname "$folder")" && cp -r "$work/root" "$folder" && touch "$ready"
