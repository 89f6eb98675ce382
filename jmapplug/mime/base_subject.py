"""The base subject of RFC 5256 §2.1: what is left of a subject without "Re:", "[list]" and "(fwd)"."""

from __future__ import annotations

import re

# Longer subjects are cut: the steps below go over the text again and again.
_MAX = 2_000
_BLOB = re.compile(r"\[[^\[\]]*\][ \t]*")
_LEADER = re.compile(r"(?:\[[^\[\]]*\][ \t]*)*+(?:re|fwd?)[ \t]*(?:\[[^\[\]]*\][ \t]*)?:|[ \t]+", re.IGNORECASE)
_TRAILER = re.compile(r"(?:\(fwd\)|[ \t])\Z", re.IGNORECASE)


def base_subject(subject: str) -> str:
    """The base subject of a decoded subject, in its own letter case. May be ""."""
    # Step 1: encoded words are decoded already.
    text = " ".join(subject[:_MAX].replace("\r", " ").replace("\n", " ").split())
    while True:
        text = _without_prefixes(_without_trailers(text))
        # Step 6.
        if not (text[:5].lower() == "[fwd:" and text.endswith("]")):
            return text
        text = text[5:-1]


def _without_trailers(text: str) -> str:
    """Step 2."""
    while _TRAILER.search(text, max(0, len(text) - 5)):
        text = text[:-1] if text[-1] in " \t" else text[:-5]
    return text


def _without_prefixes(text: str) -> str:
    """Steps 3 to 5."""
    at = 0
    while True:
        if found := _LEADER.match(text, at):
            at = found.end()
        elif (found := _BLOB.match(text, at)) and found.end() < len(text):
            # Step 4: only while something is left.
            at = found.end()
        else:
            return text[at:]
