"""Previews (RFC 8621 §4.1.4) that are not known yet, for the Emails of one answer (mail-rules 14).

One FETCH per distinct folder and section, all at once, waited for 2 seconds. An empty text is a preview only where the
message was read and has none. What is still unknown then (slow or absent upstream) has *no* ``preview`` member in the
answer: the rest of a cached list is served, and nothing is said that is not so. The fetch goes on, and when it has come
the Email counts as changed, so that the client learns of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import gevent
import gevent.pool

from jmapplug.backends import MailSource
from jmapplug.capabilities.mail import fetch, structures
from jmapplug.capabilities.mail.store import emails
from jmapplug.capabilities.mail.store.emails import Content, Copy
from jmapplug.capabilities.mail.upstream import mail_source
from jmapplug.errors import MethodError, UpstreamError
from jmapplug.mime.body import body_lists
from jmapplug.mime.decode import decode_text
from jmapplug.mime.preview import preview
from jmapplug.mime.structure import Part
from jmapplug.store.account import Store
from jmapplug.store.pace import breathe
from jmapplug.waiting import wait

DEADLINE = 2.0
"""Seconds that an answer waits."""
LENGTH = 256
_HEAD = {"text/plain": 4_096, "text/html": 32_768}
"""Encoded octets read of a text: HTML begins with its styles."""
_AT_ONCE = 4
_UIDS_AT_ONCE = 500

_under_way: WeakKeyDictionary[Store, dict[int, gevent.Greenlet[..., Any]]] = WeakKeyDictionary()
_owed: WeakKeyDictionary[Store, set[int]] = WeakKeyDictionary()


class _Wanted:
    """One Email whose preview is looked for: the texts to try, and the copies to try them on."""

    __slots__ = ("away", "content", "copies", "texts")

    def __init__(self, content: Content, copies: list[Copy]) -> None:
        self.content = content
        self.away = False
        self.copies = copies[: fetch.MAX_COPIES]
        self.texts = _texts(content.structure) if content.structure is not None else []


def fill(account: Any, ids: Sequence[str], *, previews: bool = True) -> None:
    """Find and store what these Emails lack, at most :data:`DEADLINE` seconds: structures, and with ``previews`` those.

    Never raises for an absent upstream: what could not be had stays unknown.
    """
    store: Store = account.store
    missing = emails.unfinished(store, ids, preview=previews)
    if not missing:
        return
    running = _under_way.setdefault(store, {})
    fresh = [content for content in missing.values() if content.eid not in running]
    if fresh:
        job = account.spawn(lambda: _fill(account, fresh, previews))
        running.update((content.eid, job) for content in fresh)
    wait({running[content.eid] for content in missing.values()}, DEADLINE)
    if previews:
        late = emails.unfinished(store, ids, preview=True)
        _owed.setdefault(store, set()).update(content.eid for content in late.values())


def _fill(account: Any, contents: list[Content], previews: bool) -> None:
    store: Store = account.store
    try:
        whole = [content for content in contents if content.structure is None or content.structure.body >= 0]
        pool = gevent.pool.Pool(_AT_ONCE)
        for content in whole:
            if previews:
                pool.spawn(_from_whole, account, content, structures.open_email)
            else:
                pool.spawn(_structure_only, account, content)
        if previews:
            places = emails.copies(store, [content.eid for content in contents])
            parts = [_Wanted(c, places[c.eid]) for c in contents if c.structure is not None and c.structure.body < 0]
            _from_parts(account, parts)
        pool.join()
    finally:
        for content in contents:
            _under_way.get(store, {}).pop(content.eid, None)


def _save(account: Any, found: dict[int, str]) -> None:
    owed = _owed.get(account.store, set())
    emails.save_previews(account.store, found, [eid for eid in found if eid in owed])
    owed.difference_update(found)


def _texts(root: Part) -> list[Part]:
    """The parts a preview may come from: the plain text, then the HTML."""
    text, html, _ = body_lists(root)
    firsts = [next((part for part in parts if part.type in _HEAD), None) for parts in (text, html)]
    return list(dict.fromkeys(part for part in firsts if part is not None))


def of_octets(part: Part, octets: bytes) -> str:
    """The preview that the first octets of a text part give, still transfer-encoded."""
    text = decode_text(octets, part.encoding, part.charset).text
    return preview(text, html=part.type == "text/html")[:LENGTH]


def of_message(message: structures.Message) -> str:
    """The preview of an open message. Raises as reading its parts does."""
    found = ""
    for part in _texts(message.root):
        found = found or _made_of_decoded(part, message.text(part, _HEAD[part.type])[0])
    return found


def _from_whole(account: Any, content: Content, open_: Callable[[Any, Content], structures.Message]) -> None:
    """A message that is read whole, where it has to be: no section of it can be fetched."""
    try:
        message = open_(account, content)
        found = of_message(message)
        message.close()
    except (fetch.Gone, MethodError):
        return
    _save(account, {content.eid: found})


def _structure_only(account: Any, content: Content) -> None:
    try:
        structures.open_email(account, content)
    except (fetch.Gone, MethodError):
        return


def _made_of_decoded(part: Part, octets: bytes) -> str:
    text = decode_text(octets[: _HEAD[part.type]], "binary", part.charset).text
    return preview(text, html=part.type == "text/html")[:LENGTH]


def _from_parts(account: Any, wanted: list[_Wanted]) -> None:
    """Previews by section, round by round: an empty text leads to the HTML, a copy that fails to the next one."""
    _save(account, {one.content.eid: "" for one in wanted if not one.texts})
    wanted = [one for one in wanted if one.texts and one.copies]
    try:
        source: MailSource = mail_source(account)
    except UpstreamError:
        return
    if source.features.previews:
        _round(account, source, wanted, from_server=True)
    asked = wanted
    while wanted := [one for one in wanted if one.texts and one.copies]:
        _round(account, source, wanted, from_server=False)
    for one in asked:
        if one.texts and not one.away:
            # A server that tells of a section and cannot give it.
            _from_whole(account, one.content, structures.open_whole)


def _round(account: Any, source: MailSource, wanted: list[_Wanted], *, from_server: bool) -> None:
    groups: dict[tuple[bytes, str], list[_Wanted]] = {}
    for one in wanted:
        section = "" if from_server else one.texts[0].section or "1"
        groups.setdefault((one.copies[0].key, section), []).append(one)
    pool = gevent.pool.Pool(_AT_ONCE)
    for (key, section), group in groups.items():
        for start in range(0, len(group), _UIDS_AT_ONCE):
            some = group[start : start + _UIDS_AT_ONCE]
            if from_server:
                pool.spawn(_ask_server, account, source, key, some)
            else:
                pool.spawn(_ask_texts, account, source, key, section, some)
    pool.join()


def _ask_server(account: Any, source: MailSource, key: bytes, group: list[_Wanted]) -> None:
    try:
        made = source.previews(key, [one.copies[0].uid for one in group])
    except UpstreamError:
        return
    found = {one.content.eid: made[uid][:LENGTH] for one in group if (uid := one.copies[0].uid) in made}
    _save(account, found)
    for one in group:
        if one.content.eid in found:
            one.texts = []


def _ask_texts(account: Any, source: MailSource, key: bytes, section: str, group: list[_Wanted]) -> None:
    limit = max(_HEAD[one.texts[0].type] for one in group)
    heads: dict[int, bytes] = {}
    try:
        heads = source.texts(key, section, sorted({one.copies[0].uid for one in group}), limit)
    except KeyError:
        pass
    except UpstreamError:
        for one in group:
            one.away = True
    found: dict[int, str] = {}
    for at, one in zip(itertools.count(1), group, strict=False):
        octets = heads.get(one.copies[0].uid)
        if octets is None:
            one.copies = one.copies[1:]
            continue
        made = of_octets(one.texts[0], octets[:limit])
        one.texts = [] if made else one.texts[1:]
        if not one.texts:
            found[one.content.eid] = made
        if at % 8 == 0:
            breathe()
    _save(account, found)
