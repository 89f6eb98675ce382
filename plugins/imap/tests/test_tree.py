"""From LIST rows to a tree of folders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmapplug_imap.protocol.responses import Listed, MailboxStatus, Namespace, Namespaces
from jmapplug_imap.tree import Listing, Prefixes, build, rights_of, split

from jmapplug.backends import Folder

NONE = Prefixes()


def text(level: bytes) -> str:
    return level.decode("utf-8", "replace")


def row(key: bytes, *attributes: str, separator: str | None = "/", old: bytes | None = None) -> Listed:
    return Listed(key, separator, frozenset(attributes), old)


def tree(*rows: Listed, prefixes: Prefixes = NONE, **given_: object) -> dict[bytes, Folder]:
    found = build(Listing(rows, prefixes=prefixes, **given_), text)  # type: ignore[arg-type]
    assert len(found) == len({f.key for f in found})
    return {f.key: f for f in found}


def test_inbox_is_one_folder_however_it_is_spelled() -> None:
    found = tree(row(b"Inbox"), row(b"INBOX", "\\subscribed"), row(b"Inbox/work"))
    assert list(found) == [b"INBOX", b"Inbox/work"]
    assert found[b"INBOX"].role == "inbox" and found[b"INBOX"].subscribed
    assert found[b"Inbox/work"].parent == b"INBOX"
    rights = found[b"INBOX"].rights
    assert not rights.may_rename and not rights.may_delete and rights.may_create_child


def test_a_parent_that_list_does_not_show_only_takes_children() -> None:
    found = tree(row(b"a/b/c"))
    assert list(found) == [b"a", b"a/b", b"a/b/c"]
    a = found[b"a"]
    assert (a.selectable, a.exists, a.subscribed, a.parent, a.path) == (False, False, False, None, ("a",))
    assert a.rights.may_create_child and not a.rights.may_read_items and not a.rights.may_delete
    assert found[b"a/b"].parent == b"a" and found[b"a/b/c"].path == ("a", "b", "c")


def test_noselect_and_nonexistent_folders_have_no_status_and_are_not_readable() -> None:
    status = {k: MailboxStatus(k, {"UIDVALIDITY": 1, "MESSAGES": 0}) for k in (b"a", b"b")}
    found = tree(row(b"a", "\\noselect"), row(b"b", "\\nonexistent"), row(b"c"), status=status)
    assert (found[b"a"].exists, found[b"b"].exists) == (True, False)
    assert not found[b"a"].selectable and not found[b"b"].selectable
    assert found[b"a"].uidvalidity is found[b"b"].messages is None
    assert not found[b"a"].rights.may_add_items and found[b"a"].rights.may_create_child
    assert found[b"c"].selectable and found[b"c"].uidvalidity is None


def test_status_and_the_servers_id_are_taken_over() -> None:
    items: dict[str, int | str | None] = {
        "UIDVALIDITY": 7, "UIDNEXT": 12, "HIGHESTMODSEQ": 99, "MESSAGES": 5, "UNSEEN": 2, "X-GUID": "ab,.=",
    }  # fmt: skip
    found = tree(row(b"a"), status={b"a": MailboxStatus(b"a", items)})[b"a"]
    assert (found.uidvalidity, found.uidnext, found.highestmodseq, found.messages, found.unseen) == (7, 12, 99, 5, 2)
    assert found.server_id == "ab,.="


def test_couriers_prefix_is_no_mailbox() -> None:
    """Wish 18."""
    spaces = Namespaces(personal=(Namespace(b"INBOX.", "."),), shared=(Namespace(b"shared.", "."),))
    found = tree(
        row(b"INBOX", separator="."),
        row(b"INBOX.Sent", separator="."),
        row(b"INBOX.Work.2024", separator="."),
        row(b"shared.Trash", separator="."),
        prefixes=Prefixes.of(spaces),
    )
    assert found[b"INBOX.Sent"].path == ("Sent",) and found[b"INBOX.Sent"].parent is None
    assert found[b"INBOX.Sent"].role_by_name == "sent"
    assert found[b"INBOX.Work"].path == ("Work",) and found[b"INBOX.Work.2024"].parent == b"INBOX.Work"
    assert not found[b"INBOX"].rights.may_create_child  # INBOX.x is shown at the top, never below INBOX
    assert found[b"shared.Trash"].path == ("shared", "Trash") and found[b"shared.Trash"].role_by_name is None


def test_with_two_personal_prefixes_nothing_is_stripped() -> None:
    spaces = Namespaces(personal=(Namespace(b"", "/"), Namespace(b"Archive/", "/")))
    found = tree(row(b"Archive/2024"), prefixes=Prefixes.of(spaces))
    assert found[b"Archive/2024"].path == ("Archive", "2024") and found[b"Archive"].role_by_name is None


def test_another_users_special_folders_are_not_ours() -> None:
    spaces = Namespaces(personal=(Namespace(b"", "/"),), others=(Namespace(b"user/", "/"),))
    found = tree(row(b"user/bob/Drafts", "\\drafts"), row(b"user/Trash"), prefixes=Prefixes.of(spaces))
    assert {f.role or f.role_by_name for f in found.values()} == {None}


def test_a_shared_tree_has_levels_that_are_not_ours() -> None:
    spaces = Namespaces((Namespace(b"", "/"),), (Namespace(b"user/", "/"),), (Namespace(b"#public.", "."),))
    found = tree(
        row(b"user/bob/Work/Deep"),
        row(b"user", "\\nonexistent"),
        row(b"#public.News.x/y", separator="."),
        row(b"Up/Down"),
        rights={b"user/bob/Work/Deep": "lrk"},
        prefixes=Prefixes.of(spaces),
    )
    assert found[b"user/bob/Work/Deep"].path == ("user", "bob", "Work", "Deep")
    assert found[b"#public.News.x/y"].path == ("#public", "News", "x/y")
    levels = {key: folder.rights.may_create_child for key, folder in found.items()}
    assert levels == {
        b"user": False, b"user/bob": False, b"user/bob/Work": False, b"user/bob/Work/Deep": True, b"#public": False,
        b"#public.News": False, b"#public.News.x/y": True, b"Up": True, b"Up/Down": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spaces", "theirs", "ours"),
    [
        # The empty prefix twice; a prefix without its separator; one that a name follows at once; Courier's layout.
        (Namespaces((Namespace(b"", "/"), Namespace(b"", "/")), (), (Namespace(b"", "/"),)), [], [b"a", b"INBOX"]),
        (Namespaces((Namespace(b"", "/"),), (), (Namespace(b"Public", "/"),)), [b"Public", b"Public/a"], [b"Publica"]),
        (Namespaces((Namespace(b"", "/"),), (Namespace(b"~", "/"),)), [b"~bob", b"~bob/a"], [b"bob"]),
        (Namespaces((Namespace(b"INBOX.", "."),), (), (Namespace(b"", "."),)), [b"News"], [b"INBOX", b"INBOX.a"]),
        (
            Namespaces((Namespace(b"", "/"), Namespace(b"#a/b/", "/")), (Namespace(b"#a/", "/"),)),
            [b"#a/c"],
            [b"#a/b/c"],
        ),
    ],
)
def test_whose_a_folder_is(spaces: Namespaces, theirs: list[bytes], ours: list[bytes]) -> None:
    prefixes = Prefixes.of(spaces)
    assert all(prefixes.is_foreign(key) for key in theirs) and not any(prefixes.is_foreign(key) for key in ours)


def test_a_personal_prefix_that_is_told_twice_or_without_its_separator_hides_all_the_same() -> None:
    twice = Namespaces((Namespace(b"INBOX.", "."), Namespace(b"INBOX", ".")))
    assert Prefixes.of(twice).stripped == b"INBOX."


@pytest.mark.parametrize("separator", ["/", ".", "\\", '"', "^", "|", "-", ",", "&", "x", " "])
def test_any_separator_splits(separator: str) -> None:
    """Wish 18."""
    found = tree(row(b"A" + separator.encode() + b"B", separator=separator))
    assert found[b"A" + separator.encode() + b"B"].path == ("A", "B")


def test_a_separator_inside_an_encoded_character_does_not_split() -> None:
    """Wish 18."""
    assert split(b"&AOQ-x,y", b",") == [b"&AOQ-x", b"y"]
    assert split(b"&Jjo,AOQ-,z", b",") == [b"&Jjo,AOQ-", b"z"]
    assert split(b"&AOQ--b", b"-") == [b"&AOQ-", b"b"]


def test_without_a_separator_a_name_is_flat_and_takes_no_children() -> None:
    """Wish 18."""
    found = tree(row(b"a/b.c", separator=None))
    assert found[b"a/b.c"].path == ("a/b.c",) and found[b"a/b.c"].parent is None
    assert not found[b"a/b.c"].rights.may_create_child


def test_a_trailing_separator_of_a_parent_is_no_level() -> None:
    found = tree(row(b"a/", "\\noselect"), row(b"a/b"))
    assert list(found) == [b"a", b"a/b"] and found[b"a"].exists


def test_empty_levels_have_a_name_all_the_same() -> None:
    assert all(level for f in tree(row(b"a//b"), row(b"/c")).values() for level in f.path)


def test_subscriptions_come_from_list_or_from_lsub() -> None:
    rows = (row(b"a", "\\subscribed"), row(b"b"))
    assert [f.subscribed for f in tree(*rows).values()] == [True, False]
    assert [f.subscribed for f in tree(*rows, subscribed=frozenset({b"b"})).values()] == [False, True]


def test_an_old_name_is_told() -> None:
    assert tree(row(b"new", old=b"old"))[b"new"].old_key == b"old"


@pytest.mark.parametrize(
    ("letters", "yes"),
    [
        (None, "read_items add_items remove_items set_seen set_keywords create_child rename delete submit"),
        ("", ""),
        ("lr", "read_items"),
        ("lrs", "read_items set_seen"),
        ("lrswi", "read_items set_seen set_keywords add_items"),
        ("lrte", "read_items remove_items"),
        ("lrt", "read_items"),
        ("lrkx", "read_items create_child rename delete"),
        ("r", ""),  # RFC 8621 §2: mayReadItems is both, l and r
        ("lswite", ""),  # nothing could be confirmed in what cannot be read
        ("lsk", "create_child"),
        ("lrcd", "read_items create_child remove_items rename delete"),  # RFC 2086
        ("lrtecd", "read_items create_child remove_items"),  # RFC 4314 §2.1.1 shows c and d for old clients
        ("p", "submit"),
    ],
)
def test_rights_of_an_acl_become_mailbox_rights(letters: str | None, yes: str) -> None:
    rights = rights_of(letters, frozenset(), b"/")
    granted = {name.removeprefix("may_") for name in rights.__struct_fields__ if getattr(rights, name)}
    assert granted == set(yes.split())


def test_noinferiors_takes_no_children() -> None:
    assert not rights_of(None, frozenset({"\\noinferiors"}), b"/").may_create_child


_KEYS = st.lists(st.sampled_from([b"a", b"INBOX", b"Inbox", b"b", b"", b"Trash"]), min_size=1, max_size=5)
_ATTRIBUTES = st.frozensets(st.sampled_from(["\\noselect", "\\nonexistent", "\\trash", "\\subscribed", "\\x"]))
_ROWS = st.lists(st.tuples(_KEYS, _ATTRIBUTES, st.sampled_from(["/", ".", None])), max_size=12)


@given(
    _ROWS, st.sampled_from([Prefixes(), Prefixes((b"INBOX/",)), Prefixes((b"a.",), (b"b.",)), Prefixes((b"",), (b"",))])
)
def test_whatever_is_listed_becomes_a_tree(
    listed: list[tuple[list[bytes], frozenset[str], str | None]], prefixes: Prefixes
) -> None:
    rows = [Listed((sep or "/").encode().join(levels), sep, attributes) for levels, attributes, sep in listed]
    found = build(Listing(tuple(rows), prefixes=prefixes), text)
    keys = [f.key for f in found]
    assert len(keys) == len(set(keys))
    for position, folder in enumerate(found):
        assert folder.path and all(folder.path)
        if folder.parent is not None:
            assert keys.index(folder.parent) < position
    roles = [f.role or f.role_by_name for f in found if f.role or f.role_by_name]
    assert len(roles) == len(set(roles))
