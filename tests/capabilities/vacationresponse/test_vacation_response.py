"""VacationResponse against a real Pigeonhole: what is set is what is sent (RFC 8621 §8)."""

from __future__ import annotations

import email
from collections.abc import Callable
from email import policy
from email.message import EmailMessage
from typing import Any

import pytest
from sieve_rig import Rig

from jmapplug.capabilities.sieve.force import MASTER, VACATION, master
from jmapplug.capabilities.vacationresponse import declaration
from jmapplug.capabilities.vacationresponse.script import DEFAULT_TEXT
from jmapplug.hookspecs import AccountInfo

Arrive = Callable[..., "bytes | None"]
OFF = dict.fromkeys(("fromDate", "toDate", "subject", "textBody", "htmlBody")) | {"id": "singleton", "isEnabled": False}
FILE = b'require ["fileinto"];\r\nif header :contains "subject" "list" { fileinto "Lists"; stop; }\r\n'
PAST, FUTURE = "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"


def answer(content: bytes | None) -> EmailMessage:
    assert content is not None, "no answer was sent"
    return email.message_from_bytes(content, policy=policy.default)  # type: ignore[return-value]


def text(content: bytes | None) -> str:
    return str(answer(content).get_content()).replace("\r\n", "\n").rstrip("\n")


# --- the object


def test_there_is_one_response_and_it_is_off(rig: Rig) -> None:
    assert rig.vacation() == OFF and rig.scripts() == {}
    reply = rig.call("VacationResponse/get", ids=["singleton", "x"], properties=["isEnabled"])
    assert reply["list"] == [{"id": "singleton", "isEnabled": False}] and reply["notFound"] == ["x"]


def test_what_was_set_is_read_back_from_the_server(rig: Rig) -> None:
    values = {
        "isEnabled": True, "fromDate": PAST, "toDate": FUTURE, "subject": 'Away "ü" \U0001f334', "textBody": "a\n\x00b",
        "htmlBody": "<p>ü</p>",
    }  # fmt: skip
    assert rig.respond(**values) == {}
    assert rig.vacation() == {"id": "singleton", **values}
    # Nothing of it is kept here.
    rig.store.cache.write(lambda txn: [txn.execute(f"DELETE FROM {t}") for t in ("sieve_script", "sieve_seen")])
    assert rig.vacation() == {"id": "singleton", **values}
    assert rig.respond(isEnabled=False, subject=None) == {}
    assert rig.vacation() == {"id": "singleton", **values, "isEnabled": False, "subject": None}


def test_there_is_never_another_one(rig: Rig) -> None:
    reply = rig.call("VacationResponse/set", create={"k": {}}, update={"other": {}}, destroy=["singleton", "x"])
    assert reply["notCreated"]["k"]["type"] == "singleton"
    assert {error["type"] for error in reply["notDestroyed"].values()} == {"singleton"}
    assert reply["notUpdated"]["other"]["type"] == "notFound"


@pytest.mark.parametrize(
    "patch",
    [
        {"isEnabled": None}, {"isEnabled": "yes"}, {"fromDate": "tomorrow"}, {"toDate": "2026-01-01T00:00:00+01:00"},
        {"subject": 5}, {"textBody": ["x"]}, {"days": 3}, {"id": "other"},
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused_and_named(rig: Rig, patch: dict[str, Any]) -> None:
    error = rig.respond(**patch)
    assert (error["type"], error["properties"]) == ("invalidProperties", list(patch))
    assert dict(rig.other.scripts()) == {}


def test_states_move_with_every_change_and_if_in_state_holds(rig: Rig) -> None:
    first = rig.call("VacationResponse/get", ids=None)["state"]
    assert rig.respond(isEnabled=True, textBody="x") == {}
    assert "VacationResponse" in rig.told
    second = rig.call("VacationResponse/get", ids=None)["state"]
    rig.other.activate(None)
    third = rig.call("VacationResponse/get", ids=None)["state"]
    assert len({first, second, third}) == 3
    error = rig.error("VacationResponse/set", ifInState=second, update={"singleton": {"isEnabled": True}})
    assert error.type == "stateMismatch"
    rig.other.write("theirs", FILE)
    assert rig.call("VacationResponse/get", ids=None)["state"] == third


def test_the_same_values_again_write_nothing(rig: Rig) -> None:
    rig.respond(isEnabled=True, textBody="x")
    del rig.between.seen[:]
    rig.respond(isEnabled=True, textBody="x")
    assert {"PUTSCRIPT", "SETACTIVE", "DELETESCRIPT"}.isdisjoint(rig.between.seen)


def test_only_accounts_with_sieve_are_told_to_have_it() -> None:
    assert declaration.account_value(AccountInfo("a", "a@x", "imap", frozenset({"mail", "sieve"}))) == {}
    assert declaration.account_value(AccountInfo("a", "a@x", "imap", frozenset({"mail"}))) is None
    assert all("urn:ietf:params:jmap:mail" in method.also for method in declaration.VACATIONRESPONSE.methods)


# --- what is sent


def test_a_message_is_answered_while_it_is_on_and_kept(rig: Rig, arrive: Arrive) -> None:
    assert arrive() is None
    rig.respond(isEnabled=True, subject="Away ü", textBody="Back on Monday.")
    sent = arrive()
    assert answer(sent)["Subject"] == "Away ü" and text(sent) == "Back on Monday."
    rig.respond(isEnabled=False)
    assert arrive() is None
    assert rig.count("INBOX") == 3
    assert dict(rig.other.scripts()) == {VACATION: False}


def test_mail_to_an_alias_is_answered_and_mail_to_somebody_else_is_not(rig: Rig, arrive: Arrive) -> None:
    rig.identities = [rig.user.upper(), "sales@example.org", "*@example.org"]
    rig.respond(isEnabled=True, textBody="x")
    assert arrive(to="sales@example.org") is not None
    assert arrive(to="a-list@example.org") is None


def test_without_subject_and_body_there_are_sensible_ones(rig: Rig, arrive: Arrive) -> None:
    rig.respond(isEnabled=True)
    sent = arrive("Lunch?")
    assert answer(sent)["Subject"] == "Auto: Lunch?" and text(sent) == DEFAULT_TEXT


def test_both_bodies_are_sent_as_alternatives(rig: Rig, arrive: Arrive) -> None:
    rig.respond(isEnabled=True, textBody="plain ü", htmlBody='<p>rich "ü"</p>')
    message = answer(arrive())
    assert message.get_content_type() == "multipart/alternative"
    plain, html = message.iter_parts()
    assert (plain.get_content_type(), plain.get_content().strip()) == ("text/plain", "plain ü")
    assert (html.get_content_type(), html.get_content().strip()) == ("text/html", '<p>rich "ü"</p>')
    assert message["MIME-Version"] == "1.0"


def test_html_alone_gets_a_plain_part_made_of_it(rig: Rig, arrive: Arrive) -> None:
    rig.respond(isEnabled=True, htmlBody="<h1>Away</h1><p>until <b>Monday</b></p>")
    plain, _ = answer(arrive()).iter_parts()
    assert plain.get_content().split() == ["Away", "until", "Monday"]


NASTY = [
    'quotes " and \\ and \\" ; discard; #',
    'x";\ndiscard;\nrequire "reject";\nkeep "',
    ".\n..\n.dot\n",
    "${1} ${hex: 41} */ /* # text:\n.\n",
    "at the\n#json {}\n#digest 0\nbeginning of lines",
    "lines\rwith\r\nall\nends",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_no_text_gets_out_of_its_string(rig: Rig, arrive: Arrive, nasty: str) -> None:
    assert rig.respond(isEnabled=True, subject=nasty, textBody=nasty) == {}
    sent = arrive()
    assert text(sent) == nasty.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    assert answer(sent)["Subject"].split() == nasty.split()
    assert rig.vacation()["textBody"] == nasty and rig.count("INBOX") == 1


def test_a_subject_makes_no_header_of_its_own(rig: Rig, arrive: Arrive) -> None:
    rig.respond(isEnabled=True, subject="Hi\r\nBcc: all@example.com\r\n\r\nbody", textBody="x")
    message = answer(arrive())
    assert message["Bcc"] is None and message["Subject"] == "Hi  Bcc: all@example.com    body"


def test_nul_is_not_sent(rig: Rig, arrive: Arrive) -> None:
    assert rig.respond(isEnabled=True, subject="a\0b", textBody="c\0d", htmlBody="e\0f") == {}
    sent = arrive()
    assert sent is not None and b"\0" not in sent


def test_a_long_text_is_sent_whole(rig: Rig, arrive: Arrive) -> None:
    long = "0123456789 ünïcödé\n" * 3400
    assert len(long.encode()) > 64 * 1024
    assert rig.respond(isEnabled=True, textBody=long) == {}
    assert text(arrive()) == long.rstrip("\n")


def test_a_long_line_is_sent_whole_in_lines_that_mail_can_carry(rig: Rig, arrive: Arrive) -> None:
    long = "wörter " * 2000 + '." \\'
    rig.respond(isEnabled=True, textBody=long)
    sent = arrive()
    assert text(sent) == long and max(map(len, (sent or b"").splitlines())) < 998


def test_a_text_that_is_too_long_for_the_server_is_told_and_nothing_changes(rig: Rig) -> None:
    rig.respond(isEnabled=True, textBody="x")
    assert rig.respond(textBody="y" * 200_000)["type"] == "tooLarge"
    assert rig.respond(textBody="y" * 2_000_000)["type"] == "tooLarge"
    assert rig.vacation()["textBody"] == "x" and rig.vacation()["isEnabled"] is True


@pytest.mark.parametrize(
    ("dates", "sent"),
    [
        ({"fromDate": PAST}, True), ({"toDate": FUTURE}, True), ({"fromDate": PAST, "toDate": FUTURE}, True),
        ({"fromDate": FUTURE}, False), ({"toDate": PAST}, False), ({"fromDate": FUTURE, "toDate": PAST}, False),
    ],
)  # fmt: skip
def test_dates_bound_what_is_answered(rig: Rig, arrive: Arrive, dates: dict[str, str], sent: bool) -> None:
    assert rig.respond(isEnabled=True, textBody="x", **dates) == {}
    assert (arrive() is not None) is sent
    # isEnabled is what was set, whatever the day.
    assert rig.vacation()["isEnabled"] is True


def test_a_period_begins_and_ends_at_its_second_in_utc(rig: Rig, arrive: Arrive) -> None:
    import datetime

    def at(seconds: int) -> str:
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    for dates, sent in (
        ({"fromDate": at(-60), "toDate": at(60)}, True),
        ({"fromDate": at(60), "toDate": None}, False),
        ({"fromDate": None, "toDate": at(-60)}, False),
    ):
        assert rig.respond(isEnabled=True, textBody=str(dates), **dates) == {}
        assert (arrive() is not None) is sent, dates


# --- beside the user's own script


def test_the_users_rules_go_on_while_it_is_on_and_everything_is_as_before_when_it_is_off(
    rig: Rig, arrive: Arrive
) -> None:
    rig.other.write("mine", FILE)
    rig.other.activate("mine")
    before = sorted(rig.other.scripts())
    assert arrive("a list") is None and rig.count("Lists") == 1
    assert rig.respond(isEnabled=True, textBody="Away.") == {}
    assert text(arrive("a list")) == "Away." and rig.count("Lists") == 2
    assert text(arrive("for me")) == "Away." and rig.count("INBOX") == 1
    assert rig.other.read("mine") == FILE
    assert rig.respond(isEnabled=False) == {}
    assert arrive("a list") is None and rig.count("Lists") == 3
    assert sorted(rig.other.scripts()) == sorted([*before, (VACATION, False)])


def test_clients_see_the_users_script_as_the_active_one_and_not_the_plumbing(rig: Rig) -> None:
    id_ = rig.make("mine", FILE)
    rig.activate(id_)
    state = rig.call("SieveScript/get", ids=[])["state"]
    rig.respond(isEnabled=True, textBody="x")
    assert dict(rig.other.scripts())[MASTER] is True
    assert set(rig.scripts()) == {"mine", VACATION} and rig.active() == ["mine"]
    assert rig.vacation()["isEnabled"] is True
    assert rig.call("SieveScript/get", ids=[])["state"] != state
    assert rig.call("SieveScript/set", destroy=[id_])["notDestroyed"][id_]["type"] == "sieveIsActive"


def test_a_script_edited_by_name_with_another_tool_is_what_runs(rig: Rig, arrive: Arrive) -> None:
    rig.other.write("mine", FILE)
    rig.other.activate("mine")
    rig.respond(isEnabled=True, textBody="x")
    rig.other.write("mine", FILE.replace(b"Lists", b"Other"))
    assert arrive("a list") is not None and rig.count("Other") == 1


def test_another_script_activated_by_another_tool_turns_it_off_and_that_is_told(rig: Rig, arrive: Arrive) -> None:
    rig.make("mine", FILE)
    rig.other.activate("mine")
    rig.respond(isEnabled=True, textBody="x")
    rig.other.activate("mine")
    assert rig.vacation()["isEnabled"] is False and rig.vacation()["textBody"] == "x"
    assert arrive() is None
    assert rig.respond(isEnabled=True) == {} and arrive() is not None
    assert rig.active() == ["mine"]


def test_activating_another_script_over_jmap_leaves_it_on(rig: Rig, arrive: Arrive) -> None:
    first, second = rig.make("a", b"keep;"), rig.make("b", FILE)
    rig.activate(first)
    rig.respond(isEnabled=True, textBody="x")
    assert rig.activate(second)["updated"] == {first: {"isActive": False}, second: {"isActive": True}}
    assert rig.active() == ["b"] and rig.vacation()["isEnabled"] is True
    assert arrive("a list") is not None and rig.count("Lists") == 1


def test_deactivating_the_users_script_leaves_the_response_alone_in_force(rig: Rig, arrive: Arrive) -> None:
    id_ = rig.make("mine", FILE)
    rig.activate(id_)
    rig.respond(isEnabled=True, textBody="x")
    reply = rig.call("SieveScript/set", onSuccessDeactivateScript=True)
    ours = rig.scripts()[VACATION]["id"]
    assert reply["updated"] == {id_: {"isActive": False}, ours: {"isActive": True}}
    assert arrive("a list") is not None and rig.count("Lists") == 0
    # RFC 9661 §4: the response's script can be deactivated too.
    assert rig.call("SieveScript/set", onSuccessDeactivateScript=True)["updated"] == {ours: {"isActive": False}}
    assert rig.vacation()["isEnabled"] is False and arrive() is None


def test_a_first_script_activated_while_it_is_on_joins_it(rig: Rig, arrive: Arrive) -> None:
    rig.respond(isEnabled=True, textBody="x")
    id_ = rig.make("mine", FILE, onSuccessActivateScript="#k")
    assert rig.scripts()["mine"]["id"] == id_ and rig.active() == ["mine"]
    assert arrive("a list") is not None and rig.count("Lists") == 1


def test_activating_the_responses_script_turns_it_on(rig: Rig, arrive: Arrive) -> None:
    mine = rig.make("mine", FILE)
    rig.activate(mine)
    rig.respond(isEnabled=False, textBody="Away.")
    ours = rig.scripts()[VACATION]["id"]
    assert rig.activate(ours)["updated"] == {mine: {"isActive": False}, ours: {"isActive": True}}
    assert rig.vacation()["isEnabled"] is True and text(arrive("a list")) == "Away."
    assert rig.count("Lists") == 0


def test_the_responses_script_is_changed_by_its_own_method_only(rig: Rig) -> None:
    rig.respond(isEnabled=False, textBody="x")
    script = rig.scripts()[VACATION]
    id_ = script["id"]
    assert rig.account.blob(script["blobId"]) is not None
    for update in ({"blobId": rig.upload(b"keep;")}, {"name": "other"}):
        reply = rig.call("SieveScript/set", update={id_: update})
        assert reply["notUpdated"][id_]["type"] == "forbidden"
    assert rig.call("SieveScript/set", destroy=[id_])["notDestroyed"][id_]["type"] == "forbidden"


@pytest.mark.parametrize("name", [VACATION, MASTER])
def test_our_names_cannot_be_taken_over_jmap(rig: Rig, name: str) -> None:
    record = {"name": name, "blobId": rig.upload(b"keep;")}
    assert rig.call("SieveScript/set", create={"k": record})["notCreated"]["k"]["type"] == "forbidden"
    id_ = rig.make("mine", FILE)
    assert rig.call("SieveScript/set", update={id_: {"name": name}})["notUpdated"][id_]["type"] == "forbidden"
    rig.activate(id_)
    rig.respond(isEnabled=True)
    assert rig.call("SieveScript/set", create={"k": record})["notCreated"]["k"]["type"] in (
        "forbidden",
        "alreadyExists",
    )


def test_a_rename_of_the_users_script_takes_its_rules_along(rig: Rig, arrive: Arrive) -> None:
    id_ = rig.make("mine", FILE)
    rig.activate(id_)
    rig.respond(isEnabled=True, textBody="x")
    assert rig.call("SieveScript/set", update={id_: {"name": 'mein "zweites"'}})["updated"] == {id_: None}
    assert rig.active() == ['mein "zweites"'] and rig.other.read(MASTER) == master('mein "zweites"')
    assert arrive("a list") is not None and rig.count("Lists") == 1


def test_a_rename_by_another_tool_takes_them_along_at_the_next_look(rig: Rig, arrive: Arrive) -> None:
    id_ = rig.make("mine", FILE)
    rig.activate(id_)
    rig.respond(isEnabled=True, textBody="x")
    rig.other.rename("mine", "yours")
    rig.service._due_at = 0
    rig.service.sync()
    assert arrive("a list") is not None and rig.count("Lists") == 1
    assert rig.active() == ["yours"] and rig.scripts()["yours"]["id"] == id_


def test_a_script_that_is_gone_stops_neither_mail_nor_the_response(rig: Rig, arrive: Arrive) -> None:
    rig.other.write("mine", FILE)
    rig.other.activate("mine")
    rig.respond(isEnabled=True, textBody="x")
    rig.other.delete("mine")
    assert arrive() is not None and rig.count("INBOX") == 1
    assert rig.active() == [VACATION]
    rig.respond(isEnabled=False)
    assert dict(rig.other.scripts()) == {VACATION: False}


# --- where the two cannot run together


def test_without_include_a_foreign_active_script_is_never_touched(rig: Rig) -> None:
    rig.between.hide.add("include")
    rig.other.write("mine", FILE)
    rig.other.activate("mine")
    error = rig.respond(isEnabled=True, textBody="x")
    assert error["type"] == "forbidden" and "include" in error["description"]
    assert dict(rig.other.scripts()) == {"mine": True} and rig.other.read("mine") == FILE
    assert rig.vacation() == OFF
    # Without a script of the user's there is nothing in the way; activating one later turns the response off.
    rig.other.activate(None)
    assert rig.respond(isEnabled=True, textBody="x") == {}
    rig.activate(rig.scripts()["mine"]["id"])
    assert rig.active() == ["mine"] and rig.vacation()["isEnabled"] is False


def test_a_vacation_rule_of_the_users_own_is_not_doubled(rig: Rig) -> None:
    rig.other.write("mine", b'require ["vacation"]; # vacation\r\nvacation "my own";\r\n')
    rig.other.activate("mine")
    assert rig.respond(isEnabled=True)["type"] == "forbidden"
    rig.other.write("mine", b'# vacation "was"; /* vacation */ \r\nif header "subject" "vacation" { keep; }\r\n')
    assert rig.respond(isEnabled=True) == {}


def test_a_script_of_the_users_under_our_masters_name_is_his(rig: Rig) -> None:
    rig.other.write(MASTER, FILE)
    rig.other.write("mine", FILE)
    rig.other.activate("mine")
    assert rig.respond(isEnabled=True)["type"] == "forbidden"
    assert rig.other.read(MASTER) == FILE and MASTER in rig.scripts()


def test_rules_that_another_tool_adds_to_the_master_make_it_the_users_own(rig: Rig, arrive: Arrive) -> None:
    rig.other.write("mine", b"keep;\r\n")
    rig.other.activate("mine")
    rig.respond(isEnabled=True, textBody="x")
    edited = rig.other.read(MASTER).replace(b'["include"]', b'["include", "fileinto"]')
    edited += b'if header :contains "subject" "list" { fileinto "Lists"; }\r\n'
    rig.other.write(MASTER, edited)
    assert rig.active() == [MASTER] and rig.vacation()["isEnabled"] is True
    assert arrive("a list") is not None and rig.count("Lists") == 1
    assert rig.respond(isEnabled=False) == {}
    assert rig.other.read(MASTER) == edited and rig.active() == [MASTER]
    assert arrive("a list") is None and rig.count("Lists") == 2
    assert rig.respond(isEnabled=True) == {} and arrive() is not None


def test_a_response_edited_by_hand_is_known_as_such(rig: Rig, arrive: Arrive) -> None:
    rig.respond(isEnabled=True, textBody="x")
    rig.other.write(VACATION, rig.other.read(VACATION).replace(b'"x"', b'"by hand"'))
    assert rig.vacation() == OFF | {"isEnabled": True}
    assert text(arrive()) == "by hand"
    rig.other.write(VACATION, b"# vacation\r\nkeep;\r\n")
    assert rig.vacation() == OFF
    assert rig.respond(isEnabled=True, textBody="again") == {} and text(arrive()) == "again"


@pytest.mark.parametrize(("hidden", "kind"), [("vacation", "forbidden"), ("date", "invalidProperties")])
def test_what_the_server_cannot_do_is_said_before_anything_is_written(rig: Rig, hidden: str, kind: str) -> None:
    rig.between.hide.add(hidden)
    error = rig.respond(isEnabled=True, fromDate=PAST)
    assert error["type"] == kind and dict(rig.other.scripts()) == {}
    assert kind == "forbidden" or error["properties"] == ["fromDate"]


# --- crashes: whatever dies in between, the user's rules run


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["PUTSCRIPT", "SETACTIVE", "DELETESCRIPT"])
@pytest.mark.parametrize("on", [True, False])
def test_a_cut_at_any_step_leaves_the_users_rules_in_force_and_the_next_call_finishes(
    rig: Rig, arrive: Arrive, on: bool, verb: str, when: str
) -> None:
    rig.other.write("mine", FILE)
    rig.other.activate("mine")
    if not on:
        rig.respond(isEnabled=True, textBody="x")
    rig.between.cut = (verb, when)
    rig.respond(isEnabled=on, textBody="x")
    rig.between.cut = None
    arrive("a list")
    assert rig.count("Lists") == 1
    assert rig.active() == ["mine"]
    assert rig.respond(isEnabled=on, textBody="x") == {}
    assert (arrive("a list") is not None) is on and rig.count("Lists") == 2
    assert rig.vacation()["isEnabled"] is on and (MASTER in dict(rig.other.scripts())) is on
