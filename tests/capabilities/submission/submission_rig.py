"""An account that can send, over a way out that fails where it is told to; Emails are files.

``Rig.call`` goes through dispatch with the capability's own table, beside small Email/get and Email/set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
from gevent.event import Event

from jmapplug.backends import Answered, Delivery, EnvelopeAddress, Features, SubmissionFeatures
from jmapplug.capabilities.submission.declaration import SUBMISSION, URN
from jmapplug.capabilities.submission.service import SubmissionService
from jmapplug.errors import UpstreamError
from jmapplug.jmap import dispatch
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Args, Call, Limits, Method, Reply
from jmapplug.jmap.request import trusted
from jmapplug.mime.headers import as_addresses, block_of, split
from jmapplug.store.account import Store
from jmapplug.store.blobs import BlobRef

ACCOUNT = "acc"
NOW = 1_800_000_000
CORE, MAIL = "urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"
MESSAGE = (
    b"From: Ada <ada@example.org>\r\nTo: bob@example.org\r\nCc: Eve <eve@example.org>, bob@EXAMPLE.org\r\n"
    b"Bcc: dan@example.org\r\nSubject: Hello\r\n\r\nText.\r\n"
)


class Way:
    """A ``SubmissionSource`` in memory. ``answers``: recipient → reply; ``fail``: step → what is raised there.

    Steps: "connect", "data" (behind on_data), "answer" (the message was taken, the answer is lost). ``gate`` holds the
    hand-over at a step. ``taken`` are the messages that the server took.
    """

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.mail_reply: str | None = None
        self.data_reply = "250 2.0.0 Ok"
        self.fail: dict[str, BaseException] = {}
        self.gates: dict[str, Event] = {}
        self.reached: list[str] = []
        self.taken: list[tuple[EnvelopeAddress, list[EnvelopeAddress], bytes]] = []
        self.told = SubmissionFeatures(size=10_000, dsn=True, extensions={"SIZE": ("10000",), "DSN": ()})
        self.open = self.most = 0

    def features(self) -> SubmissionFeatures:
        return self.told

    def _step(self, name: str) -> None:
        self.reached.append(name)
        if name in self.gates:
            self.gates[name].wait()
        if name in self.fail:
            raise self.fail[name]

    def send(
        self,
        mail_from: EnvelopeAddress,
        recipients: Sequence[EnvelopeAddress],
        message: Path,
        on_data: Callable[[], None],
    ) -> Delivery:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            return self._send(mail_from, recipients, message, on_data)
        finally:
            self.open -= 1

    def _send(
        self, mail_from: EnvelopeAddress, recipients: Sequence[EnvelopeAddress], message: Path, on_data: Any
    ) -> Delivery:
        self._step("connect")
        if self.mail_reply is not None:
            return Delivery({each.email: Answered(self.mail_reply, False) for each in recipients}, stage="mail")
        answers = {}
        for each in recipients:
            reply = self.answers.get(each.email, "250 2.1.5 Ok")
            answers[each.email] = Answered(reply, reply.startswith("2"))
        accepted = [each for each in recipients if answers[each.email].accepted]
        if not accepted:
            return Delivery(answers, stage="rcpt")
        on_data()
        self._step("data")
        octets = message.read_bytes()
        if not self.data_reply.startswith("2"):
            return Delivery(answers, self.data_reply)
        self.taken.append((mail_from, accepted, octets))
        self._step("answer")
        return Delivery(answers, self.data_reply, True)


class Rig:
    """See the module. ``reopen`` is a restart of the worker on the same files."""

    def __init__(self, folder: Path, email: str = "ada@example.org", send_as: tuple[str, ...] = ()) -> None:
        self.folder, self.email = folder, email
        self.settings = SimpleNamespace(sendAs=send_as)
        self.way = Way()
        self.now = float(NOW)
        self.emails: dict[str, bytes] = {"e1": MESSAGE}
        self.set_calls: list[Args] = []
        self.set_error: MethodError | None = None
        self.published: list[dict[str, str]] = []
        self.open()

    # --- life ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        self.store = Store(self.folder, [SUBMISSION.schema], on_change=self.published.append)
        self.account = SimpleNamespace(
            id=ACCOUNT,
            email=self.email,
            settings=self.settings,
            folder=self.folder,
            store=self.store,
            services={},
            submission_source=lambda: self.way,
            mail_source=lambda: SimpleNamespace(features=Features()),
            blob=self.blob,
            learn=lambda urn, facts: self.facts.update({urn: facts}),
            spawn=gevent.spawn,
        )
        self.facts: dict[str, Any] = {}
        self.service = SubmissionService(self.account, clock=lambda: self.now)
        self.account.services[URN] = self.service

    def close(self) -> None:
        self.service.close()
        self.store.close()

    def reopen(self) -> None:
        self.close()
        self.open()

    def lose_cache(self) -> None:
        self.close()
        for path in self.folder.glob("cache.sqlite3*"):
            path.unlink()
        self.open()

    # --- Emails ----------------------------------------------------------------------------------------------------

    def blob(self, blob_id: str) -> BlobRef | None:
        octets = self.emails.get(blob_id.removeprefix("m-"))
        if octets is None:
            return None
        path = self.folder / f"blob-{blob_id}"
        path.write_bytes(octets)
        return BlobRef(path, len(octets))

    def _email_get(self, call: Call, args: Args) -> Reply:
        return {"list": [self._email(id_, args["properties"]) for id_ in args["ids"] if id_ in self.emails]}

    def _email(self, id_: str, properties: list[str]) -> dict[str, Any]:
        fields = split(block_of(self.emails[id_]))
        record: dict[str, Any] = {"id": id_, "blobId": f"m-{id_}", "threadId": f"t-{id_}"}
        for name in properties:
            if name.startswith("header:"):
                field = name.split(":")[1].lower()
                record[name] = [as_addresses(value) for known, value in fields if known.lower() == field]
        return {name: record[name] for name in ("id", *properties)}

    def _email_set(self, call: Call, args: Args) -> Reply:
        self.set_calls.append({name: value for name, value in args.items() if name != "accountId"})
        if self.set_error is not None:
            raise self.set_error
        return {"updated": dict.fromkeys(args.get("update") or {}), "destroyed": args.get("destroy")}

    # --- JMAP ------------------------------------------------------------------------------------------------------

    def request(self, *calls: tuple[str, Args], using: tuple[str, ...] = (CORE, URN)) -> list[Any]:
        table = {method.name: method for method in SUBMISSION.methods}
        table["Email/get"] = Method("Email/get", self._email_get, MAIL)
        table["Email/set"] = Method("Email/set", self._email_set, MAIL)
        rows = [[name, {"accountId": ACCOUNT, **args}, str(n)] for n, (name, args) in enumerate(calls)]
        parsed = trusted(json.dumps({"using": list(using), "methodCalls": rows}).encode())
        failures: list[Exception] = []
        body = dispatch.execute(
            parsed,
            table,
            lambda id_: self.account if id_ == ACCOUNT else None,
            Limits(),
            session_state="",
            on_error=lambda name, error: failures.append(error),
        )
        for error in failures:
            raise error
        responses: list[Any] = json.loads(body)["methodResponses"]
        return responses

    def call(self, name: str, **args: Any) -> dict[str, Any]:
        """The response to one call; an error is an AssertionError. Implicit calls' responses are left out."""
        answered, answer, _ = self.request((name, args))[0]
        assert answered == name, answer
        result: dict[str, Any] = answer
        return result

    def error(self, name: str, **args: Any) -> dict[str, Any]:
        answered, answer, _ = self.request((name, args))[0]
        assert answered == "error", answer
        result: dict[str, Any] = answer
        return result

    @property
    def identity(self) -> str:
        """The id of the account's own Identity."""
        (one,) = [each for each in self.call("Identity/get", ids=None)["list"] if not each["mayDelete"]]
        return str(one["id"])

    def create(self, email: str = "e1", **more: Any) -> dict[str, Any]:
        """One creation: what was created, or its SetError."""
        record = {"identityId": self.identity, "emailId": email, **more}
        answer = self.call("EmailSubmission/set", create={"k": record})
        result: dict[str, Any] = (answer["created"] or answer["notCreated"])["k"]
        return result

    def get(self, id_: str) -> dict[str, Any]:
        (one,) = self.call("EmailSubmission/get", ids=[id_])["list"]
        result: dict[str, Any] = one
        return result

    def delivered(self, id_: str) -> dict[str, str]:
        """Recipient → delivered."""
        return {email: status["delivered"] for email, status in self.get(id_)["deliveryStatus"].items()}

    def pass_time(self, seconds: float) -> None:
        """The clock moves and the queue looks at it; returns when nothing is under way."""
        self.now += seconds
        self.service.outbox.run()
        self.service.outbox._wake.set()
        for _ in range(50):
            gevent.sleep(0.001)
            if not self.service.outbox._under_way:
                break

    def rest(self) -> None:
        """Wait until nothing is under way, and a moment longer."""
        with gevent.Timeout(60):
            gevent.sleep(0.05)
            while self.service.outbox._under_way:
                gevent.sleep(0.001)

    @staticmethod
    def away(text: str = "cannot connect") -> UpstreamError:
        return UpstreamError(text)
