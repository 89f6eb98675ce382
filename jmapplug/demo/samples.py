"""About two hundred messages of our own, varied on purpose: threads, attachments, HTML, charsets, folders, flags.

Deterministic: the same messages at every birth of a demo folder.
"""

from __future__ import annotations

import base64
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

PEOPLE = (
    ("Ada Fischer", "ada.fischer@example.com"),
    ("Björn Öst", "bjorn@example.net"),
    ("Chiara Lombardi", "chiara@example.org"),
    ("Дарья Смирнова", "darya@example.net"),
    ("Eiko Tanaka 田中", "eiko@example.jp"),
    ("Félix Moreau", "felix@example.fr"),
    ("Grace O'Neill", "grace@example.ie"),
)
SUBJECTS = (
    "Quarterly figures", "Garden party on Saturday", "Your invoice", "Train tickets", "Reading group: chapter 7",
    "Server maintenance window", "Fotos aus Lübeck", "Compte rendu de la réunion", "Планы на лето", "会議の議事録",
    "Recipe: lentil soup", "Library card renewal", "Choir practice moved", "Bug in the export", "Lost umbrella",
)  # fmt: skip
SENTENCES = (
    "Could you have a look before Friday?", "The numbers are attached.", "I will bring the chairs and the big pot.",
    "Nothing urgent, just so that you know.", "We met at the harbour and walked along the canal.",
    "The second paragraph still needs a source.", "Please reply to all.", "Thanks again for your help yesterday!",
    "The meeting room on the third floor is booked.", "It rained all day, so we baked bread instead.",
    "See the list below and add what is missing.", "I have moved the file to the shared folder.",
)  # fmt: skip
START = datetime(2026, 1, 5, 8, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sample:
    """One message for a folder. ``flags`` as IMAP spells them; ``received`` is its INTERNALDATE."""

    folder: str
    message: bytes
    received: datetime
    flags: tuple[str, ...]


def samples(owner: str, name: str) -> Iterator[Sample]:
    """The sample mail of one account."""
    maker = _Maker(owner, name)
    yield from maker.threads()
    yield from maker.attachments()
    yield from maker.newsletters()
    yield from maker.charsets()
    yield from maker.filed()


class _Maker:
    """Makes messages one after another, an hour or more apart."""

    def __init__(self, owner: str, name: str) -> None:
        self.owner, self.name = owner, name
        self.chance = random.Random(owner)  # noqa: S311 - sample data, no secret
        self.moment = START
        self.number = 0

    def _message(self, sender: tuple[str, str] | None, subject: str) -> EmailMessage:
        """A message to (or, without ``sender``, from) the owner, with its fixed headers."""
        self.number += 1
        self.moment += timedelta(hours=self.chance.randint(1, 12), minutes=self.chance.randint(0, 59))
        message = EmailMessage()
        own = Address(self.name, addr_spec=self.owner)
        other = _address(sender or self.chance.choice(PEOPLE))
        message["From"], message["To"] = (other, own) if sender else (own, other)
        message["Subject"] = subject
        message["Date"] = format_datetime(self.moment)
        message["Message-ID"] = f"<demo.{self.number}.{self.owner}>"
        return message

    def _text(self, sentences: int = 4) -> str:
        return f"Hello {self.name.split()[0]},\n\n" + "\n".join(self.chance.sample(SENTENCES, sentences)) + "\n"

    def _sample(self, message: EmailMessage, folder: str = "INBOX", *flags: str) -> Sample:
        multiparts = (part for part in message.walk() if part.get_content_maintype() == "multipart")
        for index, part in enumerate(multiparts):
            part.set_boundary(f"=_demo_{self.number}_{index}")
        seen = ("\\Seen",) if self.chance.random() < 0.7 else ()
        return Sample(folder, message.as_bytes(), self.moment, tuple(dict.fromkeys((*seen, *flags))))

    def threads(self) -> Iterator[Sample]:
        """Twenty conversations of two to six messages, the owner's part in Sent."""
        for index in range(20):
            subject = f"{SUBJECTS[index % len(SUBJECTS)]} ({index + 1})"
            friend = PEOPLE[index % len(PEOPLE)]
            earlier: list[str] = []
            for turn in range(self.chance.randint(2, 6)):
                mine = turn % 2 == 1
                message = self._message(None if mine else friend, ("Re: " if turn else "") + subject)
                if earlier:
                    message["In-Reply-To"] = earlier[-1]
                    message["References"] = " ".join(earlier)
                message.set_content(self._text() + (f"\n> {self.chance.choice(SENTENCES)}\n" if turn else ""))
                earlier.append(str(message["Message-ID"]))
                yield self._sample(message, "Sent" if mine else "INBOX", *(("\\Answered",) if turn == 0 else ()))

    def attachments(self) -> Iterator[Sample]:
        """Files of several kinds, a forwarded message, an inline picture."""
        for index in range(15):
            message = self._message(self.chance.choice(PEOPLE), f"Documents, part {index + 1}")
            message.set_content(self._text(2))
            message.add_attachment(_png(index * 15), maintype="image", subtype="png", filename=f"chart {index}.png")
            if index % 3 == 0:
                table = "item;price\n" + "".join(f"thing {n};{n * 3}\n" for n in range(200))
                message.add_attachment(table, subtype="csv", filename="Preisliste für März.csv")
            yield self._sample(message, "INBOX", *(("\\Flagged",) if index % 4 == 0 else ()))
        inner = self._message(PEOPLE[0], "The original message")
        inner.set_content(self._text())
        outer = self._message(PEOPLE[1], "Fwd: The original message")
        outer.set_content("See below.\n")
        outer.add_attachment(inner)
        yield self._sample(outer)

    def newsletters(self) -> Iterator[Sample]:
        """HTML with a plain alternative, with pictures inside, and HTML alone."""
        for index in range(30):
            message = self._message(("Weekly Letter", "letter@news.example"), f"Weekly letter no. {index + 1}")
            message["List-Id"] = "<letter.news.example>"
            paragraphs = "".join(f"<p>{self.chance.choice(SENTENCES)}</p>" for _ in range(6))
            html = f"<html><body><h1>No. {index + 1}</h1>{paragraphs}</body></html>"
            if index % 3 == 0:
                message.set_content(html, subtype="html")
            else:
                message.set_content(self._text(6))
                message.add_alternative(html.replace("</body>", '<img src="cid:logo"></body>'), subtype="html")
                related = message.get_payload()[1]  # type: ignore[index]
                related.add_related(_png(index), "image", "png", cid="<logo>")  # type: ignore[union-attr]
            yield self._sample(message, "Newsletters" if index % 2 else "INBOX")

    def charsets(self) -> Iterator[Sample]:
        """Bodies and subjects in old encodings, and headers in raw UTF-8."""
        texts = (
            ("iso-8859-1", "Grüße aus Köln, schöne Ferien!"), ("koi8-r", "Привет! Встречаемся в семь у метро."),
            ("iso-2022-jp", "会議は午後三時からです。"), ("gb18030", "请查收附件，谢谢。"),
            ("euc-kr", "안녕하세요, 회의 자료입니다."),
            ("windows-1250", "Příští schůze bude ve středu."), ("utf-8", "Καλημέρα! Ελπίζω να είσαι καλά. 🌻"),
        )  # fmt: skip
        for index in range(21):
            charset, text = texts[index % len(texts)]
            message = self._message(PEOPLE[index % len(PEOPLE)], text[:20])
            message.set_content(text + "\n", charset=charset, cte="base64")
            yield self._sample(message)
        raw = self._message(PEOPLE[3], "placeholder")
        raw.set_content("Eight bits in the header.\n")
        data = raw.as_bytes().replace(b"Subject: placeholder", "Subject: Übergröße — ohne Kodierung".encode())
        yield Sample("INBOX", data, self.moment, ())

    def filed(self) -> Iterator[Sample]:
        """What lies in the other folders."""
        counts = (("Archive/2025", 25), ("Work/Projects/Lighthouse", 15), ("Trash", 8), ("Junk", 8), ("Drafts", 3))
        for folder, count in counts:
            for index in range(count):
                sender = None if folder == "Drafts" else self.chance.choice(PEOPLE)
                message = self._message(sender, f"{self.chance.choice(SUBJECTS)} #{index}")
                message.set_content(self._text(3))
                yield self._sample(message, folder, *(("\\Draft", "\\Seen") if folder == "Drafts" else ()))


def _address(person: tuple[str, str]) -> Address:
    return Address(person[0], addr_spec=person[1])


def _png(shade: int) -> bytes:
    """A small picture of one colour, so that attachments are real files."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = 32
    row = b"\0" + bytes((shade % 256, 120, 200 - shade % 200)) * size
    head = size.to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    start = base64.b64decode("iVBORw0KGgo=")
    return start + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * size)) + chunk(b"IEND", b"")
