"""EmailSubmission/set and its relatives (RFC 8621 §7) over a way out in memory."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event
from submission_rig import CORE, MAIL, MESSAGE, NOW, Rig

from jmapplug.backends import SubmissionFeatures
from jmapplug.capabilities.submission import email_submission_set, outbox
from jmapplug.errors import AuthenticationError, MethodError, UpstreamError

DAY = 86_400


def to(*emails: str) -> list[dict[str, Any]]:
    return [{"email": email} for email in emails]


# --- a send ----------------------------------------------------------------------------------------------------------


def test_a_message_goes_out_without_its_bcc_to_everybody_it_names(rig: Rig) -> None:
    made = rig.create()
    ((sender, recipients, octets),) = rig.way.taken
    assert sender.email == "ada@example.org"
    assert [each.email for each in recipients] == ["bob@example.org", "eve@example.org", "dan@example.org"]
    assert octets == MESSAGE.replace(b"Bcc: dan@example.org\r\n", b"")
    assert made["undoStatus"] == "final"
    assert made["threadId"] == "t-e1"
    assert made["sendAt"] == "2027-01-15T08:00:00Z"
    status = {"smtpReply": "250 2.1.5 Ok", "delivered": "unknown", "displayed": "unknown"}
    assert made["deliveryStatus"]["bob@example.org"] == status
    assert made["dsnBlobIds"] == made["mdnBlobIds"] == []


def test_what_is_created_is_what_get_answers(rig: Rig) -> None:
    made = rig.create()
    assert rig.get(made["id"]) == {**made, "identityId": rig.identity, "emailId": "e1"}
    assert made["envelope"] == {
        "mailFrom": {"email": "ada@example.org", "parameters": None},
        "rcptTo": [{"email": f"{name}@example.org", "parameters": None} for name in ("bob", "eve", "dan")],
    }


def test_mail_in_using_admits_sending(rig: Rig) -> None:
    ((name, _, _),) = rig.request(("Identity/get", {}), using=(CORE, MAIL))
    assert name == "Identity/get"
    ((name, _, _),) = rig.request(("EmailSubmission/get", {}), using=(CORE,))
    assert name == "error"


def test_an_envelope_is_used_as_it_is_and_each_recipient_once(rig: Rig) -> None:
    envelope = {"mailFrom": {"email": "ada@example.org", "parameters": None}, "rcptTo": to("x@y.z", "x@Y.Z", "a@y.z")}
    made = rig.create(envelope=envelope)
    assert [each["email"] for each in made["envelope"]["rcptTo"]] == ["x@y.z", "a@y.z"]
    assert [each.email for each in rig.way.taken[0][1]] == ["x@y.z", "a@y.z"]


@pytest.mark.parametrize(
    "envelope",
    [
        {"rcptTo": [{"email": "x@y.z"}]},
        {"mailFrom": None, "rcptTo": [{"email": "x@y.z", "parameters": {}}]},
        {"mailfrom": {"email": "ada@example.org"}, "rcptTo": [{"email": "x@y.z"}], "size": 3},
    ],
)
def test_real_clients_envelopes_are_understood(rig: Rig, envelope: dict[str, Any]) -> None:
    made = rig.create(envelope=envelope)
    assert made["envelope"]["mailFrom"]["email"] == "ada@example.org"


def test_the_empty_return_path_may_be_asked_for(rig: Rig) -> None:
    rig.create(envelope={"mailFrom": {"email": ""}, "rcptTo": to("x@y.z")})
    assert rig.way.taken[0][0].email == ""


def test_the_sender_field_goes_before_from_if_the_identity_allows_it(tmp_path: Any) -> None:
    rig = Rig(tmp_path / "a", send_as=("*@example.net",))
    rig.emails["e2"] = b"From: x@example.net\r\nSender: s@example.net\r\nTo: b@c.d\r\n\r\n"
    made = rig.call("Identity/set", create={"i": {"email": "*@example.net"}})["created"]["i"]
    assert rig.create("e2", identityId=made["id"])["envelope"]["mailFrom"]["email"] == "s@example.net"
    # Another Identity's own address is used where it does not allow the header's.
    assert rig.create("e2")["envelope"]["mailFrom"]["email"] == "ada@example.org"
    rig.close()


# --- what is refused at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"emailId": "nope"}, {"type": "invalidProperties", "properties": ["emailId"]}),
        ({"emailId": "#nope"}, {"type": "invalidProperties", "properties": ["emailId"]}),
        ({"identityId": "nope"}, {"type": "invalidProperties", "properties": ["identityId"]}),
        ({"identityId": None}, {"type": "invalidProperties", "properties": ["identityId"]}),
        ({"emailId": 3}, {"type": "invalidProperties", "properties": ["emailId"]}),
        ({"sendAt": "2027-01-15T08:00:00Z"}, {"type": "invalidProperties", "properties": ["sendAt"]}),
        ({"envelope": 3}, {"type": "invalidProperties", "properties": ["envelope"]}),
        ({"envelope": {"rcptTo": "x@y.z"}}, {"type": "invalidProperties", "properties": ["envelope"]}),
        ({"envelope": {"rcptTo": [{"email": 3}]}}, {"type": "invalidProperties", "properties": ["envelope"]}),
        ({"envelope": {"rcptTo": []}}, {"type": "noRecipients"}),
        ({"envelope": {"mailFrom": {"email": "ada@example.org"}}}, {"type": "noRecipients"}),
        (
            {"envelope": {"rcptTo": to("x@y.z", "no address", "a@b>\r\nc")}},
            {"type": "invalidRecipients", "invalidRecipients": ["no address", "a@b>\r\nc"]},
        ),
        (
            {"envelope": {"rcptTo": to(*(f"x{n}@y.z" for n in range(1001)))}},
            {"type": "tooManyRecipients", "maxRecipients": 1000},
        ),
        (
            {"envelope": {"mailFrom": {"email": "boss@example.org"}, "rcptTo": to("x@y.z")}},
            {"type": "forbiddenMailFrom"},
        ),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_rfcs_error(rig: Rig, change: Any, expected: Any) -> None:
    error = rig.create(**change)
    error.pop("description", None)
    assert error == expected
    assert rig.way.reached == []
    assert list((rig.folder / "outbox").iterdir()) == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"To: b@c.d\r\n\r\n", {"type": "invalidEmail", "properties": ["from"]}),
        (b"From: boss@example.org\r\nTo: b@c.d\r\n\r\n", {"type": "forbiddenFrom"}),
        (b"From: ada@example.org, x@y.z\r\nTo: b@c.d\r\n\r\n", {"type": "invalidEmail", "properties": ["from"]}),
        (
            b"From: ada@example.org\r\nSender: a@b.c\r\nSender: d@e.f\r\nTo: b@c.d\r\n\r\n",
            {"type": "invalidEmail", "properties": ["sender"]},
        ),
        (b"From: ada@example.org\r\n\r\n", {"type": "noRecipients"}),
        (
            b"From: ada@example.org\r\nTo: nobody\r\n\r\n",
            {"type": "invalidRecipients", "invalidRecipients": ["nobody"]},
        ),
        (b"From: ada@example.org\r\nTo: b@c.d\r\n\r\n" + b"x" * 10_000, {"type": "tooLarge", "maxSize": 10_000}),
    ],
)
def test_a_message_that_cannot_be_sent_is_refused(rig: Rig, message: bytes, expected: Any) -> None:
    rig.service.learn(rig.way.told)
    rig.emails["e1"] = message
    error = rig.create()
    error.pop("description", None)
    assert error == expected


@pytest.mark.parametrize("case", ["Ada@Example.ORG", "ada@example.org"])
def test_addresses_are_compared_without_regard_to_case(rig: Rig, case: str) -> None:
    rig.emails["e1"] = f"From: {case}\r\nTo: b@c.d\r\n\r\n".encode()
    assert "id" in rig.create()


def test_a_full_disk_is_an_error_of_that_record_and_leaves_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outbox.os, "fsync", full)
    assert rig.create()["type"] == "serverFail"
    assert list((rig.folder / "outbox").iterdir()) == []
    assert rig.way.reached == []


def test_a_call_that_fails_as_a_whole_sends_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.emails["e2"] = MESSAGE
    original = rig.account.blob

    def broken(blob_id: str) -> Any:
        if blob_id == "m-e2":
            raise RuntimeError("a defect")
        return original(blob_id)

    monkeypatch.setattr(rig.account, "blob", broken)
    one, two = ({"identityId": rig.identity, "emailId": id_} for id_ in ("e1", "e2"))
    with pytest.raises(RuntimeError):
        rig.call("EmailSubmission/set", create={"1": one, "2": two})
    rig.pass_time(3600)
    assert rig.way.reached == []
    assert not rig.service.busy


def test_the_queue_leaves_alone_what_is_still_being_created(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.emails["e2"] = MESSAGE
    original = rig.account.blob

    def slow_then_broken(blob_id: str) -> Any:
        if blob_id == "m-e2":
            rig.pass_time(5)
            raise RuntimeError("a defect")
        return original(blob_id)

    monkeypatch.setattr(rig.account, "blob", slow_then_broken)
    one, two = ({"identityId": rig.identity, "emailId": id_} for id_ in ("e1", "e2"))
    with pytest.raises(RuntimeError):
        rig.call("EmailSubmission/set", create={"1": one, "2": two})
    assert rig.way.reached == []
    assert not rig.service.busy


def test_an_account_has_so_many_waiting_messages_and_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email_submission_set, "MAX_PENDING", 2)
    record = {"identityId": rig.identity, "emailId": "e1", "envelope": held()}
    answer = rig.call("EmailSubmission/set", create={"1": record, "2": record, "3": record})
    assert answer["created"].keys() == {"1", "2"}
    assert answer["notCreated"]["3"]["type"] == "overQuota"


def test_the_server_is_asked_what_it_offers_once_a_day(rig: Rig) -> None:
    asked = []

    def features() -> SubmissionFeatures:
        asked.append(rig.now)
        return rig.way.told

    rig.way.features = features  # type: ignore[method-assign]
    for hours in (0, 0, 23, 2):
        rig.now += hours * 3600
        rig.service.sync()
        gevent.sleep(0.01)
        rig.reopen()
    assert asked == [NOW, NOW + 25 * 3600]


# --- what the mail server refuses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ({"rcpt": "550 5.1.1 No such user"}, {"type": "invalidRecipients", "invalidRecipients": ["x@y.z"]}),
        ({"rcpt": "554 5.7.1 Relay access denied"}, {"type": "forbiddenToSend"}),
        ({"mail": "553 5.7.1 Not yours"}, {"type": "forbiddenMailFrom"}),
        ({"mail": "530 5.7.0 Log in first"}, {"type": "forbiddenToSend"}),
        ({"mail": "552 5.3.4 Too big"}, {"type": "tooLarge", "maxSize": 10_000}),
        ({"data": "554 5.7.1 Spam"}, {"type": "forbiddenToSend"}),
        ({"data": "552 5.3.4 Too big"}, {"type": "tooLarge", "maxSize": 10_000}),
    ],
)
def test_an_immediate_send_that_is_refused_for_good_is_a_set_error(rig: Rig, replies: Any, expected: Any) -> None:
    rig.service.learn(rig.way.told)
    rig.way.answers = {"x@y.z": replies.get("rcpt", "250 ok")}
    rig.way.mail_reply = replies.get("mail")
    rig.way.data_reply = replies.get("data", "250 ok")
    state = rig.call("EmailSubmission/get", ids=[])["state"]
    error = rig.create(envelope={"rcptTo": to("x@y.z")})
    assert error.pop("description") == next(iter(replies.values()))
    assert error == expected
    assert rig.call("EmailSubmission/get", ids=None)["list"] == []
    assert rig.call("EmailSubmission/get", ids=[])["state"] == state
    assert list((rig.folder / "outbox").iterdir()) == []
    assert not rig.service.busy


def test_some_refused_recipients_do_not_stop_the_others(rig: Rig) -> None:
    rig.way.answers = {"bad@y.z": "550 5.1.1 No such user"}
    made = rig.create(envelope={"rcptTo": to("bad@y.z", "good@y.z")})
    assert rig.delivered(made["id"]) == {"bad@y.z": "no", "good@y.z": "unknown"}
    assert made["deliveryStatus"]["bad@y.z"]["smtpReply"] == "550 5.1.1 No such user"


def test_a_password_that_is_not_taken_is_told_to_who_sends(rig: Rig) -> None:
    rig.way.fail["connect"] = AuthenticationError("no")
    assert rig.create()["type"] == "forbiddenToSend"
    assert not rig.service.busy


def test_a_server_that_cannot_be_used_is_told_to_who_sends(rig: Rig) -> None:
    rig.way.fail["connect"] = UpstreamError("certificate", temporary=False)
    assert rig.create()["type"] == "forbiddenToSend"
    assert not rig.service.busy


# --- waiting and trying again ----------------------------------------------------------------------------------------


def test_a_server_that_is_away_is_tried_again_with_longer_and_longer_pauses(rig: Rig) -> None:
    rig.way.fail["connect"] = rig.away()
    made = rig.create()
    assert made["undoStatus"] == "pending"
    assert rig.delivered(made["id"])["bob@example.org"] == "queued"
    assert made["deliveryStatus"]["bob@example.org"]["smtpReply"].startswith("451 4.4.1 ")
    tried = []
    for _ in range(20):
        before = len(rig.way.reached)
        rig.pass_time(60)
        tried.append(len(rig.way.reached) > before)
    assert [n for n, one in enumerate(tried, 1) if one] == [1, 3, 7, 15]
    del rig.way.fail["connect"]
    rig.pass_time(3600)
    assert len(rig.way.taken) == 1
    assert rig.get(made["id"])["undoStatus"] == "final"
    assert not rig.service.busy


def test_after_five_days_it_is_given_up_with_the_last_reply(rig: Rig) -> None:
    rig.way.answers = {"x@y.z": "451 4.7.1 Greylisted"}
    made = rig.create(envelope={"rcptTo": to("x@y.z")})
    for _ in range(5 * 24 + 2):
        rig.pass_time(3600)
    one = rig.get(made["id"])
    assert one["undoStatus"] == "final"
    assert one["deliveryStatus"]["x@y.z"] == {
        "smtpReply": "451 4.7.1 Greylisted", "delivered": "no", "displayed": "unknown",
    }  # fmt: skip
    assert list((rig.folder / "outbox").iterdir()) == []


def test_only_those_are_tried_again_who_did_not_get_it(rig: Rig) -> None:
    rig.way.answers = {"later@y.z": "451 4.7.1 Greylisted"}
    made = rig.create(envelope={"rcptTo": to("now@y.z", "later@y.z")})
    assert made["undoStatus"] == "final"
    assert rig.delivered(made["id"]) == {"now@y.z": "unknown", "later@y.z": "queued"}
    rig.way.answers = {}
    rig.pass_time(61)
    assert [[each.email for each in recipients] for _, recipients, _ in rig.way.taken] == [["now@y.z"], ["later@y.z"]]
    assert rig.delivered(made["id"]) == {"now@y.z": "unknown", "later@y.z": "unknown"}


def test_a_refusal_that_comes_late_reaches_the_user_as_a_change(rig: Rig) -> None:
    rig.way.answers = {"x@y.z": "451 4.7.1 Greylisted"}
    made = rig.create(envelope={"rcptTo": to("x@y.z")})
    state = rig.call("EmailSubmission/get", ids=[])["state"]
    rig.published.clear()
    rig.way.answers = {"x@y.z": "550 5.1.1 No such user"}
    rig.pass_time(61)
    assert rig.call("EmailSubmission/changes", sinceState=state)["updated"] == [made["id"]]
    assert rig.published[-1].keys() == {"EmailSubmission"}
    assert rig.delivered(made["id"]) == {"x@y.z": "no"}


def test_a_slow_server_does_not_keep_the_client_waiting(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email_submission_set, "PATIENCE", 0.05)
    rig.way.gates["answer"] = Event()
    made = rig.create()
    assert made["undoStatus"] == "pending"
    assert rig.delivered(made["id"])["bob@example.org"] == "queued"
    rig.way.gates["answer"].set()
    rig.pass_time(0)
    assert rig.get(made["id"])["undoStatus"] == "final"
    assert len(rig.way.taken) == 1


def test_at_most_two_connections_at_a_time(rig: Rig) -> None:
    record = {"identityId": rig.identity, "emailId": "e1"}
    answer = rig.call("EmailSubmission/set", create={f"k{n}": record for n in range(7)})
    assert len(answer["created"]) == len(rig.way.taken) == 7
    assert rig.way.most <= 2


def test_an_answer_that_is_lost_is_unknown_and_never_sent_again(rig: Rig) -> None:
    """Wish 25."""
    rig.way.fail["answer"] = UpstreamError("cut", code="unsure")
    made = rig.create()
    assert made["undoStatus"] == "final"
    assert set(rig.delivered(made["id"]).values()) == {"unknown"}
    assert "not known" in made["deliveryStatus"]["bob@example.org"]["smtpReply"]
    del rig.way.fail["answer"]
    rig.pass_time(10 * DAY)
    assert len(rig.way.taken) == 1


# --- later, and not at all -------------------------------------------------------------------------------------------


def held(seconds: int = 3600, **more: str) -> dict[str, Any]:
    sender = {"email": "ada@example.org", "parameters": {"HOLDFOR": str(seconds), **more}}
    return {"mailFrom": sender, "rcptTo": to("x@y.z")}


def test_a_message_is_held_until_its_time_and_may_be_taken_back(rig: Rig) -> None:
    made = rig.create(envelope=held())
    assert (made["undoStatus"], made["sendAt"]) == ("pending", "2027-01-15T09:00:00Z")
    assert rig.service.busy
    rig.pass_time(3590)
    assert rig.way.reached == []
    answer = rig.call("EmailSubmission/set", update={made["id"]: {"undoStatus": "canceled"}})
    assert answer["updated"][made["id"]]["deliveryStatus"]["x@y.z"]["delivered"] == "no"
    assert rig.get(made["id"])["undoStatus"] == "canceled"
    rig.pass_time(DAY)
    assert rig.way.reached == []
    assert not rig.service.busy
    assert list((rig.folder / "outbox").iterdir()) == []


def test_a_held_message_goes_out_at_its_time_whatever_became_of_the_email(rig: Rig) -> None:
    made = rig.create(envelope=held())
    rig.emails.clear()
    rig.call("EmailSubmission/set", destroy=[made["id"]])
    assert rig.call("EmailSubmission/get", ids=[made["id"]])["notFound"] == [made["id"]]
    rig.pass_time(3601)
    ((sender, _, octets),) = rig.way.taken
    assert octets.startswith(b"From: Ada")
    # Holding was ours: the server is not asked for it.
    assert sender.parameters == {}
    assert not rig.service.busy


def test_a_server_that_holds_messages_is_given_them_at_once(rig: Rig) -> None:
    rig.service.learn(SubmissionFeatures(future_release=7200, extensions={"FUTURERELEASE": ("7200",)}))
    made = rig.create(envelope=held())
    assert (made["undoStatus"], made["sendAt"]) == ("final", "2027-01-15T09:00:00Z")
    assert rig.way.taken[0][0].parameters == {"HOLDUNTIL": "2027-01-15T09:00:00Z"}


def test_what_the_server_holds_not_long_enough_we_hold(rig: Rig) -> None:
    rig.service.learn(SubmissionFeatures(future_release=60, extensions={"FUTURERELEASE": ("60",)}))
    assert rig.create(envelope=held())["undoStatus"] == "pending"
    assert rig.way.reached == []


def test_a_server_that_does_not_hold_after_all_gets_the_message_at_its_time(rig: Rig) -> None:
    rig.service.learn(SubmissionFeatures(future_release=7200, extensions={"FUTURERELEASE": ("7200",)}))
    rig.way.fail["connect"] = UpstreamError("no", code="parameter", temporary=False)
    made = rig.create(envelope=held())
    assert made["undoStatus"] == "pending"
    del rig.way.fail["connect"]
    rig.pass_time(3601)
    assert rig.way.taken[0][0].parameters == {}


@pytest.mark.parametrize(
    "parameters",
    [
        {"HOLDFOR": str(31 * DAY)},
        {"HOLDFOR": "-1"},
        {"HOLDFOR": None},
        {"HOLDUNTIL": "tomorrow"},
        {"HOLDUNTIL": "2027-01-15T10:00:00+01:00"},
        {"HOLDFOR": "60", "HOLDUNTIL": "2027-01-15T09:00:00Z"},
        {"RET": "ALL"},
        {"BY": "60;R"},
        {"XFOO": "1"},
        {"RET": ["FULL"]},
    ],
)
def test_parameters_that_cannot_be_honoured_are_refused(rig: Rig, parameters: dict[str, Any]) -> None:
    rig.service.learn(rig.way.told)
    sender = {"email": "ada@example.org", "parameters": parameters}
    error = rig.create(envelope={"mailFrom": sender, "rcptTo": to("x@y.z")})
    assert (error["type"], error["properties"]) == ("invalidProperties", ["envelope"])


def test_a_moment_that_has_passed_means_now(rig: Rig) -> None:
    sender = {"email": "ada@example.org", "parameters": {"holduntil": "2020-01-01T00:00:00Z"}}
    made = rig.create(envelope={"mailFrom": sender, "rcptTo": to("x@y.z")})
    assert (made["undoStatus"], made["sendAt"]) == ("final", "2027-01-15T08:00:00Z")


def test_dsn_parameters_go_to_the_server(rig: Rig) -> None:
    sender = {"email": "ada@example.org", "parameters": {"RET": "HDRS", "ENVID": "q 1", "BODY": "7BIT"}}
    recipient = {"email": "x@y.z", "parameters": {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;x@y.z"}}
    rig.create(envelope={"mailFrom": sender, "rcptTo": [recipient]})
    ((sent, (to_,), _),) = rig.way.taken
    assert sent.parameters == {"RET": "HDRS", "ENVID": "q 1"}
    assert to_.parameters == recipient["parameters"]


def test_what_has_been_sent_cannot_be_unsent(rig: Rig) -> None:
    made = rig.create()
    answer = rig.call("EmailSubmission/set", update={made["id"]: {"undoStatus": "canceled"}})
    assert answer["notUpdated"][made["id"]]["type"] == "cannotUnsend"


def test_a_hand_over_can_be_stopped_until_the_first_octet(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email_submission_set, "PATIENCE", 0.05)
    rig.way.gates["connect"] = Event()
    made = rig.create()
    answer = rig.call("EmailSubmission/set", update={made["id"]: {"undoStatus": "canceled"}})
    assert answer["updated"], answer
    rig.way.gates["connect"].set()
    rig.pass_time(DAY)
    assert rig.way.taken == []
    assert rig.get(made["id"])["undoStatus"] == "canceled"


def test_a_hand_over_cannot_be_stopped_after_that(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email_submission_set, "PATIENCE", 0.05)
    rig.way.gates["data"] = Event()
    made = rig.create()
    answer = rig.call("EmailSubmission/set", update={made["id"]: {"undoStatus": "canceled"}})
    assert answer["notUpdated"][made["id"]]["type"] == "cannotUnsend"
    rig.way.gates["data"].set()
    rig.pass_time(0)
    assert len(rig.way.taken) == 1


@pytest.mark.parametrize(
    ("change", "type_"),
    [
        ({"undoStatus": "final"}, "invalidProperties"),
        ({"emailId": "e2"}, "invalidProperties"),
        ({"x": 1}, "invalidProperties"),
        ({"envelope/rcptTo": []}, "invalidProperties"),
    ],
)
def test_nothing_else_can_be_changed(rig: Rig, change: dict[str, Any], type_: str) -> None:
    made = rig.create(envelope=held())
    answer = rig.call("EmailSubmission/set", update={made["id"]: change, "nope": {"undoStatus": "canceled"}})
    assert answer["notUpdated"][made["id"]]["type"] == type_
    assert answer["notUpdated"]["nope"]["type"] == "notFound"
    assert rig.get(made["id"])["undoStatus"] == "pending"


# --- the implicit Email/set ------------------------------------------------------------------------------------------


def test_the_email_is_updated_after_a_success_in_the_same_response(rig: Rig) -> None:
    record = {"identityId": rig.identity, "emailId": "e1"}
    bad = {"identityId": rig.identity, "emailId": "nope"}
    patch = {"keywords/$draft": None, "mailboxIds/sent": True}
    responses = rig.request(
        (
            "EmailSubmission/set",
            {"create": {"k": record, "b": bad}, "onSuccessUpdateEmail": {"#k": patch, "#b": patch, "#z": patch}},
        )
    )
    assert [(name, call_id) for name, _, call_id in responses] == [("EmailSubmission/set", "0"), ("Email/set", "0")]
    assert rig.set_calls == [{"update": {"e1": patch}, "destroy": None}]
    assert responses[1][1]["updated"] == {"e1": None}


def test_the_email_may_go_after_a_success(rig: Rig) -> None:
    record = {"identityId": rig.identity, "emailId": "e1"}
    rig.request(("EmailSubmission/set", {"create": {"k": record}, "onSuccessDestroyEmail": ["#k"]}))
    assert rig.set_calls == [{"update": None, "destroy": ["e1"]}]


def test_nothing_is_done_to_the_email_of_a_send_that_failed(rig: Rig) -> None:
    rig.way.mail_reply = "553 5.7.1 no"
    record = {"identityId": rig.identity, "emailId": "e1"}
    responses = rig.request(("EmailSubmission/set", {"create": {"k": record}, "onSuccessDestroyEmail": ["#k"]}))
    assert len(responses) == 1
    assert rig.set_calls == []


def test_canceling_and_destroying_are_successes_too(rig: Rig) -> None:
    made = rig.create(envelope=held())
    patch = {"keywords/$draft": True}
    rig.call(
        "EmailSubmission/set",
        update={made["id"]: {"undoStatus": "canceled"}},
        onSuccessUpdateEmail={made["id"]: patch},
    )
    rig.call("EmailSubmission/set", destroy=[made["id"]], onSuccessDestroyEmail=[made["id"]])
    assert rig.set_calls == [{"update": {"e1": patch}, "destroy": None}, {"update": None, "destroy": ["e1"]}]


def test_an_implicit_call_that_fails_says_so(rig: Rig) -> None:
    rig.set_error = MethodError("serverUnavailable", "away")
    record = {"identityId": rig.identity, "emailId": "e1"}
    responses = rig.request(("EmailSubmission/set", {"create": {"k": record}, "onSuccessDestroyEmail": ["#k"]}))
    assert responses[0][1]["created"]
    assert responses[1] == ["error", {"type": "serverUnavailable", "description": "away"}, "0"]


@pytest.mark.parametrize("extra", [{"onSuccessUpdateEmail": []}, {"onSuccessDestroyEmail": {"a": 1}}, {"x": 1}])
def test_arguments_of_the_wrong_type_are_refused(rig: Rig, extra: dict[str, Any]) -> None:
    assert rig.error("EmailSubmission/set", **extra)["type"] == "invalidArguments"


def test_records_made_earlier_in_the_request_are_known_by_their_creation_ids(tmp_path: Any) -> None:
    rig = Rig(tmp_path / "a", send_as=("list@example.org",))
    rig.emails["e1"] = MESSAGE.replace(b"ada@example.org", b"list@example.org")
    responses = rig.request(
        ("Identity/set", {"create": {"me": {"email": "list@example.org"}}}),
        ("EmailSubmission/set", {"create": {"k": {"identityId": "#me", "emailId": "e1"}}}),
        ("EmailSubmission/get", {"ids": ["#k"]}),
    )
    assert responses[2][1]["list"][0]["identityId"] == responses[0][1]["created"]["me"]["id"]
    assert rig.way.taken[0][0].email == "list@example.org"
    rig.close()


# --- reading ---------------------------------------------------------------------------------------------------------


def test_queries_filter_and_sort(rig: Rig) -> None:
    rig.emails["e2"] = MESSAGE
    one = rig.create(envelope=held())["id"]
    rig.now += 60
    two = rig.create("e2")["id"]
    for filter_, expected in (
        (None, [one, two]),
        ({"emailIds": ["e1"]}, [one]),
        ({"threadIds": ["t-e2", "x"]}, [two]),
        ({"identityIds": [rig.identity]}, [one, two]),
        ({"identityIds": []}, []),
        ({"undoStatus": "pending"}, [one]),
        ({"before": "2027-01-15T08:30:00Z"}, [two]),
        ({"after": "2027-01-15T09:00:00Z"}, [one]),
        ({"operator": "NOT", "conditions": [{"undoStatus": "pending"}]}, [two]),
    ):
        answer = rig.call("EmailSubmission/query", filter=filter_, calculateTotal=True)
        assert (answer["ids"], answer["total"]) == (expected, len(expected)), filter_
    for name, expected in (("emailId", [one, two]), ("threadId", [one, two]), ("sentAt", [two, one])):
        assert rig.call("EmailSubmission/query", sort=[{"property": name}])["ids"] == expected
        backwards = [{"property": name, "isAscending": False}]
        assert rig.call("EmailSubmission/query", sort=backwards)["ids"] == expected[::-1]
    assert rig.call("EmailSubmission/query", sort=[{"property": "sendAt"}])["ids"] == [two, one]
    assert rig.error("EmailSubmission/query", filter={"x": 1})["type"] == "unsupportedFilter"


def test_query_changes_tell_what_left_and_what_came(rig: Rig) -> None:
    pending = {"filter": {"undoStatus": "pending"}}
    one = rig.create(envelope=held())["id"]
    before = rig.call("EmailSubmission/query", **pending)
    assert before["canCalculateChanges"]
    two = rig.create(envelope=held(7200))["id"]
    rig.call("EmailSubmission/set", update={one: {"undoStatus": "canceled"}})
    delta = rig.call("EmailSubmission/queryChanges", sinceQueryState=before["queryState"], **pending)
    assert (delta["removed"], delta["added"]) == ([one], [{"id": two, "index": 0}])


def test_changes_are_told_step_by_step(rig: Rig) -> None:
    start = rig.call("EmailSubmission/get", ids=[])["state"]
    ids = [rig.create(envelope=held(60 * n + 60))["id"] for n in range(5)]
    rig.call("EmailSubmission/set", update={ids[0]: {"undoStatus": "canceled"}}, destroy=[ids[1]])
    whole = rig.call("EmailSubmission/changes", sinceState=start)
    assert set(whole["created"]) == {ids[0], *ids[2:]}
    assert whole["updated"] == whole["destroyed"] == []
    known: set[str] = set()
    state, more = start, True
    while more:
        step = rig.call("EmailSubmission/changes", sinceState=state, maxChanges=1)
        known = (known | set(step["created"])) - set(step["destroyed"])
        state, more = step["newState"], step["hasMoreChanges"]
    assert known == {ids[0], *ids[2:]}
    assert state == whole["newState"]


def test_a_lost_cache_loses_no_submission(rig: Rig) -> None:
    made = rig.create(envelope=held())
    state = rig.call("EmailSubmission/get", ids=[])["state"]
    rig.lose_cache()
    assert rig.get(made["id"])["undoStatus"] == "pending"
    assert rig.error("EmailSubmission/changes", sinceState=state)["type"] == "cannotCalculateChanges"
    rig.pass_time(3601)
    assert len(rig.way.taken) == 1


def test_a_submission_is_forgotten_after_thirty_days(rig: Rig) -> None:
    made = rig.create()
    state = rig.call("EmailSubmission/get", ids=[])["state"]
    rig.now += 29 * DAY
    rig.service.sync()
    assert rig.get(made["id"])
    rig.now += 2 * DAY
    rig.service.sync()
    assert rig.call("EmailSubmission/get", ids=[made["id"]])["notFound"] == [made["id"]]
    assert rig.call("EmailSubmission/changes", sinceState=state)["destroyed"] == [made["id"]]


def test_an_account_without_a_way_out_does_not_support_these_methods(rig: Rig) -> None:
    rig.account.services.clear()
    for name in ("Identity/get", "EmailSubmission/query", "EmailSubmission/set"):
        assert rig.error(name)["type"] == "accountNotSupportedByMethod"
    rig.account.services = {"urn:ietf:params:jmap:submission": rig.service}


def test_the_session_tells_what_the_server_said(rig: Rig) -> None:
    rig.service.learn(SubmissionFeatures(extensions={"SIZE": ("100",), "PIPELINING": (), "STARTTLS": ()}))
    (facts,) = rig.facts.values()
    assert facts == {"extensions": {"SIZE": ["100"]}}
    rig.reopen()
    assert list(rig.facts.values()) == [facts]
