"""Ghosts: copies known from before a folder's UIDs were made anew, or the account moved (mail-rules 4, 19). Pure.

They keep an Email in sight until a pass knows whether it is still there; this is how a new copy is told to be the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from jmapplug.capabilities.mail.store.mailboxes import Row


def is_ghost_here(places: Sequence[tuple[int, int]], box: Row) -> bool:
    """Whether an Email with these copies (mid, UID) is remembered from before this folder's UIDs were made anew.

    Where one folder was made anew it must be nowhere else: there its body can be compared.
    """
    here = [uid for mid, uid in places if mid == box.mid]
    return bool(here) and max(here) < 0 and (bool(box.moved) or len(here) == len(places))


def is_ghost_elsewhere(places: Sequence[tuple[int, int]], box: Row) -> bool:
    """Whether it was in another folder of the server that the account has left, and is still to be found here."""
    return bool(box.moved and places) and all(uid < 0 for _, uid in places)
