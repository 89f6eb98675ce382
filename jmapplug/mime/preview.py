"""What a list shows of a message, and HTML as plain text."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

PREVIEW_LENGTH = 256
_LOOKED_AT = 65_536
_SPACE = re.compile(
    r"[\s\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]++"
)
_ATTRIBUTION = re.compile(
    r"[^\n]{0,300}(?:wrote|writes|schrieb[^:\n]{0,80}|a écrit|escribió|ha scritto|schreef[^:\n]{0,80})\s?:\s*\Z"
)
_OPENING = re.compile(r"(?:On|Am|Le|El|Il|Op) [^\n]{0,300}\Z")
_DIVIDER = re.compile(r"\s*(?:-{2,}\s*(?:Original|Forwarded|Urspr|Weitergeleitete|Message)[^\n]*|[-_=*~#+.]{3,})\s*\Z")
_RUN = re.compile(r"([-_=*~#+.])\1{4,}")


def preview(text: str, *, html: bool = False) -> str:
    """At most 256 characters of the text on one line, without quotes, signature and drawn lines.

    Of a message that is nothing but quotes, these.
    """
    text = html_to_text(text, _LOOKED_AT) if html else text[:_LOOKED_AT]
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return _folded(_own_lines(lines)) or _folded([line.lstrip("> ") for line in lines])


def _own_lines(lines: list[str]) -> list[str]:
    kept: list[str] = []
    for line in lines:
        if line in ("-- ", "--"):
            break
        if line.lstrip().startswith(">"):
            # "On Monday Jane wrote:" may have been folded, and an empty line may stand below it.
            while kept and not kept[-1].strip():
                kept.pop()
            if kept and _ATTRIBUTION.match(kept[-1]):
                whole = _OPENING.match(kept.pop())
                if not whole and kept and _OPENING.match(kept[-1]):
                    kept.pop()
        elif not _DIVIDER.match(line):
            kept.append(line)
    return kept


def _folded(lines: list[str]) -> str:
    text = _SPACE.sub(_space, " ".join(lines)).strip()
    return _RUN.sub(r"\1\1\1", text)[:PREVIEW_LENGTH].rstrip()


def _space(found: re.Match[str]) -> str:
    """White space, and the invisible characters that newsletters pad with; a joiner inside a word stays."""
    run = found[0]
    return run if len(run) == 1 and not run.isspace() and run in "\u200c\u200d\u200e\u200f" else _fold(run)


def _fold(run: str) -> str:
    return " " if any(map(str.isspace, run)) else ""


_SILENT = frozenset(("script", "style", "head", "title", "template", "noscript", "svg", "math", "object", "-comment"))
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "li",
    "main", "nav", "ol", "p", "pre", "section", "table", "tbody", "tfoot", "thead", "tr", "ul",
))  # fmt: skip
_MAX_DEPTH = 2_000
_CLOSE_THEMSELVES = (
    "<br", "<img", "<p>", "<p ", "<li", "<td", "<th", "<tr", "<dd", "<dt", "<hr", "<meta", "<input", "<col", "<option",
    "<!",
)  # fmt: skip
_MARKUP = re.compile(r"<[^<>]*>")
_WHITE = re.compile(r"[ \t\r\n\f]+")


def html_to_text(html: str, cap: int = 200_000) -> str:
    """The readable text of an HTML document, at most its first ``cap`` characters looked at.

    Blocks stand on lines of their own; lines of a quotation begin with "> ".
    """
    html = html[:cap]
    if _bottomless(html):
        return _WHITE.sub(" ", _MARKUP.sub(" ", html)).strip()
    try:
        root = LexborHTMLParser(html.encode("utf-8", "replace").decode("utf-8")).root
    except (ValueError, RuntimeError):
        return ""
    return _Text().of(root) if root is not None else ""


def _bottomless(html: str) -> bool:
    """Whether so many elements stay open that the parser's time, the square of the depth, would be felt by others."""
    excess = html.count("<") - 2 * html.count("</") - _MAX_DEPTH
    if excess <= 0:
        return False
    html = html.lower()
    return excess > sum(map(html.count, _CLOSE_THEMSELVES))


class _Text:
    """Collects lines. ``quotes`` is how many quotations are open."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.line: list[str] = []
        self.quotes = 0

    def of(self, root: LexborNode) -> str:
        # Iterative: the nesting is the sender's. A node that is left again is marked by False.
        stack: list[tuple[LexborNode, bool]] = [(root, True)]
        while stack:
            node, entering = stack.pop()
            if not entering:
                self.leave(node.tag or "")
                continue
            tag = node.tag or ""
            if tag == "-text":
                self.line.append(node.text_content or "")
            elif tag not in _SILENT:
                self.enter(tag)
                stack.append((node, False))
                child = node.last_child
                while child is not None:
                    stack.append((child, True))
                    child = child.prev
        self.end_line()
        return "\n".join(self.lines).strip("\n")

    def enter(self, tag: str) -> None:
        if tag == "br" or tag in _BLOCKS:
            self.end_line(keep_empty=tag == "br")
        elif tag in ("td", "th"):
            self.line.append(" ")
        self.quotes += tag == "blockquote"

    def leave(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.end_line()
        self.quotes -= tag == "blockquote"

    def end_line(self, keep_empty: bool = False) -> None:
        text = _WHITE.sub(" ", "".join(self.line)).strip(" ")
        self.line.clear()
        if text or (keep_empty and self.lines and self.lines[-1]):
            self.lines.append("> " * min(self.quotes, 1) + text if text else "")
