"""Roles: which folder is the Trash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmapplug_imap import roles


def test_at_least_twelve_languages_name_every_important_role() -> None:
    """Wish 17."""
    for role in ("sent", "drafts", "trash", "junk"):
        assert len(roles.NAMES[role]) >= 12


def test_no_name_stands_for_two_roles() -> None:
    seen: dict[str, str] = {}
    for role, languages in roles.NAMES.items():
        for name in (name for names in languages.values() for name in names):
            assert seen.setdefault(roles.fold(name), role) == role, name


@pytest.mark.parametrize(
    ("path", "role"),
    [
        (["Gesendete Objekte"], "sent"),
        (["ÉLÉMENTS ENVOYÉS"], "sent"),
        (["E\u0301le\u0301ments envoye\u0301s"], "sent"),  # decomposed
        (["ゴミ箱"], "trash"),
        (["Çöp Kutusu"], "trash"),
        (["GÖNDERİLMİŞ ÖĞELER"], "sent"),
        (["Черновики"], "drafts"),
        (["스팸메일함"], "junk"),
        (["INBOX", "Trash"], "trash"),
        (["[Gmail]", "Corbeille"], "trash"),
        (["Deleted   Items"], "trash"),
        (["Projects", "Archive"], None),
        (["INBOX", "Work", "Sent"], None),
        (["垃圾箱"], None),  # Trash in one program, Junk in another
        (["Sentinel"], None),
        ([], None),
    ],
)
def test_a_well_known_name_suggests_its_role(path: list[str], role: str | None) -> None:
    found = roles.suggested(path)
    assert (found and found[0]) == role


@pytest.mark.parametrize(
    ("attributes", "role"),
    [
        (["\\HasNoChildren", "\\Sent"], "sent"),
        (["\\TRASH"], "trash"),
        (["\\Spam"], "junk"),
        (["\\AllMail"], "all"),
        (["\\Starred"], "flagged"),
        (["\\All", "\\Important"], "all"),
        (["\\Marked", "\\Unmarked", "\\Subscribed", "\\NonExistent", "\\Remote"], None),
    ],
)
def test_an_attribute_states_a_role(attributes: list[str], role: str | None) -> None:
    assert roles.stated(attributes) == role


def test_the_servers_word_beats_a_better_name() -> None:
    """Wish 17."""
    found = roles.assign([(b"Drafts", None, ["Drafts"]), (b"x", "drafts", ["x"])])
    assert found == {b"Drafts": (None, None), b"x": ("drafts", None)}


def test_of_two_candidates_exactly_one_gets_the_role() -> None:
    names = [
        (b"Deleted Items", None, ["Deleted Items"]),
        (b"Trash", None, ["Trash"]),
        (b"INBOX/Trash", None, ["INBOX", "Trash"]),
    ]
    found = roles.assign(names)
    assert found[b"Trash"] == (None, "trash")
    assert found[b"Deleted Items"] == found[b"INBOX/Trash"] == (None, None)
    assert roles.assign([(b"b", "sent", ["b"]), (b"a", "sent", ["a"])]) == {b"a": ("sent", None), b"b": (None, None)}


_LEVEL = st.sampled_from(["Trash", "Sent", "Sent Items", "Papierkorb", "INBOX", "Bin", "work"])
_ROLE = st.sampled_from([None, None, "trash", "sent", "all"])


@given(st.dictionaries(st.binary(min_size=1, max_size=3), st.tuples(_ROLE, st.lists(_LEVEL, min_size=1, max_size=2))))
def test_each_role_is_given_at_most_once_whatever_the_order(rows: dict[bytes, tuple[str | None, list[str]]]) -> None:
    """Wish 17."""
    listed = [(key, role, path) for key, (role, path) in rows.items()]
    found = roles.assign(listed)
    given_roles = [role or hint for role, hint in found.values() if role or hint]
    assert len(given_roles) == len(set(given_roles)) and found.keys() == rows.keys()
    assert found == roles.assign(listed[::-1])
