"""Which parts are the body and which are attachments (RFC 8621 §4.1.4), and what a reader calls an attachment."""

from __future__ import annotations

from jmapplug.mime.structure import Part

_MEDIA = ("image/", "audio/", "video/")
_TEXTS = ("text/plain", "text/html")

# Parts that a mail program handles itself: signatures, the envelopes of encryption, reports of other machines.
_MACHINERY = frozenset(
    (
        "application/pgp-signature",
        "application/pkcs7-signature",
        "application/x-pkcs7-signature",
        "application/pgp-encrypted",
        "application/pkcs7-mime",
        "application/x-pkcs7-mime",
        "message/delivery-status",
        "message/global-delivery-status",
        "message/disposition-notification",
        "message/global-disposition-notification",
        "message/feedback-report",
        "message/tracking-status",
        "text/rfc822-headers",
        "message/global-headers",
    )
)


def part_id(part: Part) -> str:
    """The partId of a leaf: its IMAP section number."""
    return part.section


def body_lists(root: Part) -> tuple[list[Part], list[Part], list[Part]]:
    """(textBody, htmlBody, attachments) by the algorithm that RFC 8621 §4.1.4 suggests."""
    text: list[Part] = []
    html: list[Part] = []
    attachments: list[Part] = []
    _spread((root,), "mixed", False, text, html, attachments)
    return text, html, attachments


def _spread(
    parts: tuple[Part, ...],
    kind: str,
    in_alternative: bool,
    text: list[Part] | None,
    html: list[Part] | None,
    attachments: list[Part],
) -> None:
    """``text`` or ``html`` is None inside an alternative that is the other one."""
    text_before, html_before = len(text or ()), len(html or ())
    for at, part in enumerate(parts):
        if part.multipart:
            inner = part.type.partition("/")[2]
            _spread(part.parts, inner, in_alternative or inner == "alternative", text, html, attachments)
        elif not _inline(part, at, kind):
            attachments.append(part)
        elif kind == "alternative":
            chosen = text if part.type == "text/plain" else html if part.type == "text/html" else attachments
            if chosen is not None:
                chosen.append(part)
        else:
            if in_alternative and part.type == "text/plain":
                html = None
            if in_alternative and part.type == "text/html":
                text = None
            for chosen in (text, html):
                if chosen is not None:
                    chosen.append(part)
            if (text is None or html is None) and part.type.startswith(_MEDIA):
                attachments.append(part)
    if kind == "alternative" and text is not None and html is not None:
        _share(text, text_before, html, html_before)


def _share(text: list[Part], text_before: int, html: list[Part], html_before: int) -> None:
    """An alternative with one form only is shown in both lists."""
    if len(text) == text_before and len(html) != html_before:
        text += html[html_before:]
    elif len(html) == html_before and len(text) != text_before:
        html += text[text_before:]


def _inline(part: Part, at: int, kind: str) -> bool:
    """Part of the body rather than an attachment."""
    if part.disposition == "attachment":
        return False
    media = part.type.startswith(_MEDIA)
    if not media and part.type not in _TEXTS:
        return False
    # Of multipart/related only the first is shown; a later text with a file name is a file.
    return at == 0 or (kind != "related" and (media or not part.name))


def has_attachment(root: Part) -> bool:
    """Whether a reader would say that a file is attached.

    Images that belong to the HTML, signatures, encryption envelopes, delivery reports, invitations and other
    alternative forms of the text are none. A picture with a file name that is shown below the text is one, unless
    the sender asked for "inline".
    """
    text, html, attachments = body_lists(root)
    places = _places(root)
    if any(_counts(part, *places[id(part)]) for part in attachments):
        return True
    shown = {id(part): part for part in (*text, *html)}
    return any(
        part.type.startswith(_MEDIA) and part.name is not None and part.cid is None and part.disposition is None
        for part in shown.values()
    )


def _places(root: Part) -> dict[int, tuple[str, bool]]:
    """For each part the type of the multipart around it, and whether it is the first there."""
    places = {id(root): ("", True)}
    for part in root.walk():
        for at, child in enumerate(part.parts):
            places[id(child)] = (part.type, at == 0)
    return places


def _counts(part: Part, around: str, first: bool) -> bool:
    if part.type in _MACHINERY or around == "multipart/encrypted":
        return False
    if part.disposition == "attachment":
        return True
    if around in ("multipart/report", "multipart/alternative"):
        return False
    if part.type.startswith(_MEDIA):
        return not (part.cid is not None and around == "multipart/related") and part.disposition != "inline"
    if around == "multipart/related" and part.cid is not None:
        return False
    if part.type == "text/calendar":
        return False
    # RFC 8621 §4.1.4 leaves "inline" out; but nobody shows a PDF inside the text, so it is offered as a file.
    return part.disposition != "inline" or (part.name is not None and not part.type.startswith("text/"))
