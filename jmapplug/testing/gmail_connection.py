"""One client of the tests' Gmail: its commands and their answers."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import socketserver
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from jmapplug.testing import gmail_fetch as show
from jmapplug.testing.gmail_fetch import Token, quoted
from jmapplug.testing.gmail_store import USES, Account, Folder, Refused

if TYPE_CHECKING:
    from jmapplug.testing.gmail_server import Server

PASSWORD = "secret"
BEFORE = "CAPABILITY IMAP4rev1 UNSELECT IDLE NAMESPACE ID XLIST CHILDREN X-GM-EXT-1 AUTH=PLAIN SASL-IR"
AFTER = (
    "CAPABILITY IMAP4rev1 UNSELECT IDLE NAMESPACE ID CHILDREN X-GM-EXT-1 UIDPLUS ENABLE MOVE CONDSTORE ESEARCH"
    " LIST-EXTENDED LIST-STATUS LITERAL- SPECIAL-USE APPENDLIMIT=35651584"
)
FLAGS = "\\Answered \\Flagged \\Draft \\Deleted \\Seen $Forwarded $NotPhishing $Phishing"

Args = list[Any]
"""Tokens, and lists of them."""


class Bad(Exception):
    """BAD, with its text."""


class Connection(socketserver.StreamRequestHandler):
    """One client. ``view``: the UIDs that it has been told of, in order; ``seen`` their MODSEQs."""

    server: Server
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.account: Account | None = None
        self.folder: Folder | None = None
        self.read_only = False
        self.view: list[int] = []
        self.seen: dict[int, int] = {}
        self.modseqs = False

    def say(self, *parts: str | bytes) -> None:
        self.wfile.write(b"".join(p.encode() if isinstance(p, str) else p for p in parts) + b"\r\n")

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.say("* OK Gimap ready for requests")
            while (tokens := self.read()) is not None:
                if not self.answer(tokens):
                    return

    def read(self) -> Args | None:
        """One command, its literals read; None at the end."""
        octets = b""
        while True:
            line = self.rfile.readline(1 << 20)
            if not line.endswith(b"\n"):
                return None
            octets += line.rstrip(b"\r\n")
            literal = show.LITERAL.search(octets)
            if literal is None:
                break
            if not literal[2]:
                self.say("+ go ahead")
            octets += b"\r\n" + self.rfile.read(int(literal[1]))
        self.server.note(octets)
        return show.tokens(octets)

    def answer(self, tokens: Args) -> bool:
        tag = str(tokens[0])
        verb = str(tokens[1]).upper() if len(tokens) > 1 else ""
        args = tokens[2:]
        if verb == "UID" and args:
            verb, args = f"UID {args[0]!s}".upper(), args[1:]
        if verb == "LOGOUT":
            self.say("* BYE LOGOUT Requested\r\n", tag, " OK done")
            return False
        method: Callable[[str, Args], str | None] | None = HANDLERS.get(verb, Connection.unknown).__get__(self)
        assert method is not None
        try:
            if self.account is None:
                if verb not in OPEN:
                    raise Bad("Unknown command " + verb)
                text = method(verb, args)
            elif verb == "IDLE":
                text = self.idle()
            else:
                with self.account.lock:
                    text = method(verb, args)
                    if verb not in ("FETCH", "STORE", "SEARCH"):
                        self.flush()
            self.say(tag, " OK ", text or "Success")
        except Refused as error:
            self.say(tag, " NO ", str(error))
        except (Bad, IndexError, ValueError, KeyError) as error:
            self.say(tag, " BAD Could not parse command ", repr(error)[:200].replace("\n", " "))
        return True

    def unknown(self, verb: str, args: Args) -> str:
        raise Bad("Unknown command " + verb)

    # --- before and around -------------------------------------------------------------------------------------------

    def capability(self, verb: str, args: Args) -> None:
        self.say("* ", self.server.shown(AFTER if self.account else BEFORE))

    def login(self, verb: str, args: Args) -> str:
        if str(args[1]) != PASSWORD:
            raise Refused("[AUTHENTICATIONFAILED] Invalid credentials (Failure)")
        self.account = self.server.account(str(args[0]))
        self.say("* ", self.server.shown(AFTER))
        return f"{args[0]} authenticated (Success)"

    def authenticate(self, verb: str, args: Args) -> str:
        if str(args[0]).upper() != "PLAIN":
            raise Bad("unsupported mechanism")
        if len(args) == 1:
            self.say("+ ")
            args = [args[0], Token(self.rfile.readline(8192).strip())]
        _, user, password = base64.b64decode(str(args[1])).split(b"\0")
        return self.login(verb, [Token(user), Token(password)])

    def id(self, verb: str, args: Args) -> None:
        self.say('* ID ("name" "GImap" "vendor" "Google, Inc.")')

    def enable(self, verb: str, args: Args) -> None:
        self.modseqs |= any(str(arg).upper() == "CONDSTORE" for arg in args)
        self.say("* ENABLED", *(" CONDSTORE" for arg in args if str(arg).upper() == "CONDSTORE"))

    def noop(self, verb: str, args: Args) -> None:
        """flush does it."""

    def namespace(self, verb: str, args: Args) -> None:
        self.say('* NAMESPACE (("" "/")) NIL NIL')

    # --- folders -----------------------------------------------------------------------------------------------------

    def list_(self, verb: str, args: Args) -> None:
        account, only = self.opened, False
        if isinstance(args[0], list):
            only = any(str(each).upper() == "SUBSCRIBED" for each in args[0])
            args = args[1:]
        options = args[3] if len(args) > 3 and isinstance(args[3], list) else []
        words = [str(each).upper() for each in options if not isinstance(each, list)]
        status = next((each for each in options if isinstance(each, list)), None)
        pattern = show.pattern(str(args[0]) + str(args[1]))
        if str(args[1]) == "":
            self.say('* LIST (\\Noselect) "/" "/"')
            return
        names = [*account.folders, "[Gmail]"]
        for name in sorted(names):
            folder = account.folders.get(name)
            if not pattern.fullmatch(name) or ((only or verb == "LSUB") and not (folder and folder.subscribed)):
                continue
            attributes = ["\\HasChildren" if any(n.startswith(name + "/") for n in names) else "\\HasNoChildren"]
            attributes += [USES[name]] if name in USES else []
            attributes += ["\\Noselect"] if folder is None else []
            attributes += ["\\Subscribed"] if folder and folder.subscribed and ("SUBSCRIBED" in words or only) else []
            self.say("* ", verb, " (", " ".join(attributes), ') "/" ', quoted(name))
            if status is not None and folder is not None:
                self.tell(folder, status)

    def status(self, verb: str, args: Args) -> None:
        folder, items = self.opened.folder(str(args[0])), args[1]
        assert isinstance(items, list)
        self.tell(folder, items)

    def tell(self, folder: Folder, items: Iterable[Any]) -> None:
        values = {
            "MESSAGES": len(folder.messages),
            "RECENT": 0,
            "UIDNEXT": folder.uidnext,
            "UIDVALIDITY": folder.uidvalidity,
            "UNSEEN": sum("\\Seen" not in message.flags for message in folder.messages.values()),
            "HIGHESTMODSEQ": folder.highest,
        }
        words = [f"{name} {values[name]}" for name in (str(item).upper() for item in items)]
        self.say("* STATUS ", quoted(folder.name), " (", " ".join(words), ")")

    def create(self, verb: str, args: Args) -> None:
        self.opened.create(str(args[0]))

    def rename(self, verb: str, args: Args) -> None:
        self.opened.rename(str(args[0]), str(args[1]))

    def delete(self, verb: str, args: Args) -> None:
        self.opened.delete(str(args[0]))

    def subscribe(self, verb: str, args: Args) -> None:
        folder = self.opened.folders.get(str(args[0]))
        if folder is not None:
            folder.subscribed = verb == "SUBSCRIBE"

    def select(self, verb: str, args: Args) -> str:
        self.folder = None
        folder = self.opened.folder(str(args[0]))
        self.folder, self.read_only = folder, verb == "EXAMINE"
        self.modseqs |= len(args) > 1
        self.view, self.seen = sorted(folder.messages), dict(folder.modseq)
        self.say(f"* FLAGS ({FLAGS})")
        self.say("* OK [PERMANENTFLAGS (", "" if self.read_only else f"{FLAGS} \\*", ")] Flags permitted.")
        self.say(f"* OK [UIDVALIDITY {folder.uidvalidity}] UIDs valid.")
        self.say(f"* {len(self.view)} EXISTS\r\n* 0 RECENT\r\n* OK [UIDNEXT {folder.uidnext}] Predicted next UID.")
        self.say(f"* OK [HIGHESTMODSEQ {folder.highest}]")
        return ("[READ-ONLY] " if self.read_only else "[READ-WRITE] ") + folder.name + " selected. (Success)"

    def unselect(self, verb: str, args: Args) -> None:
        if verb == "CLOSE" and not self.read_only:
            self.opened.expunge(self.there, None)
        self.folder = None

    @property
    def opened(self) -> Account:
        assert self.account is not None
        return self.account

    @property
    def there(self) -> Folder:
        if self.folder is None:
            raise Bad("no folder is selected")
        return self.folder

    def flush(self) -> None:
        """Tell what is gone, changed and new."""
        folder = self.folder
        if folder is None:
            return
        for at in range(len(self.view), 0, -1):
            if self.view[at - 1] not in folder.messages:
                self.seen.pop(self.view.pop(at - 1), None)
                self.say(f"* {at} EXPUNGE")
        fresh = [uid for uid in sorted(folder.messages) if uid not in self.seen]
        for at, uid in enumerate(self.view, 1):
            if self.seen[uid] != folder.modseq[uid]:
                self.fetched(at, uid, ["UID", "FLAGS"])
        if fresh:
            self.view += fresh
            self.seen |= {uid: folder.modseq[uid] for uid in fresh}
            self.say(f"* {len(self.view)} EXISTS")

    def idle(self) -> str:
        ours, theirs = socket.socketpair()
        try:
            with self.opened.lock:
                self.opened.told.add(theirs)
                self.say("+ idling")
                self.flush()
            while True:
                ready, _, _ = select.select([self.connection, ours], [], [], 1800)
                if ours in ready:
                    ours.recv(4096)
                    with self.opened.lock:
                        self.flush()
                if self.connection in ready or not ready:
                    if not self.rfile.readline(8192):
                        raise OSError("gone")
                    return "IDLE terminated (Success)"
        finally:
            self.opened.told.discard(theirs)
            ours.close()
            theirs.close()

    # --- messages ----------------------------------------------------------------------------------------------------

    def uids(self, words: Any, by_uid: bool) -> list[int]:
        """The UIDs of a set, in this view and still there."""
        numbers = self.view if by_uid else list(range(1, len(self.view) + 1))
        wanted = show.numbers(str(words), numbers[-1] if numbers else 0)
        pairs = zip(numbers, self.view, strict=True)
        return [uid for number, uid in pairs if number in wanted and uid in self.there.messages]

    def fetch(self, verb: str, args: Args) -> None:
        items = args[1] if isinstance(args[1], list) else [args[1]]
        names = [str(item) for item in items]
        if verb.startswith("UID") and "UID" not in map(str.upper, names):
            names.insert(0, "UID")
        since = 0
        if len(args) > 2 and isinstance(args[2], list):
            since, self.modseqs = int(str(args[2][1])), True
            names.append("MODSEQ")
        for uid in self.uids(args[0], verb.startswith("UID")):
            if self.there.modseq[uid] > since:
                marking = any(name.upper().startswith("BODY[") for name in names) and not self.read_only
                if marking:
                    self.opened.change(self.there, uid, "+", {"\\Seen"})
                self.fetched(self.view.index(uid) + 1, uid, names)

    def fetched(self, at: int, uid: int, names: Iterable[str]) -> None:
        folder = self.there
        names = [*names, *(["MODSEQ"] if self.modseqs and "FLAGS" in names and "MODSEQ" not in names else [])]
        self.say(f"* {at} FETCH (", b" ".join(show.item(self.opened, folder, uid, name) for name in names), ")")
        if any(name.upper() == "FLAGS" for name in names):
            self.seen[uid] = folder.modseq[uid]

    def store(self, verb: str, args: Args) -> str | None:
        if self.read_only:
            raise Refused("[CANNOT] The folder is read-only")
        folder, args, limit = self.there, list(args), None
        if isinstance(args[1], list):
            limit = int(str(args.pop(1)[1]))
            self.modseqs = True
        word = str(args[1]).upper()
        sign, silent = word[0] if word[0] in "+-" else "", word.endswith(".SILENT")
        values = args[2] if isinstance(args[2], list) else args[2:]
        names = [str(value) for value in values]
        refused = []
        for uid in self.uids(args[0], verb.startswith("UID")):
            if limit is not None and folder.modseq[uid] > limit:
                refused.append(uid)
                continue
            if "X-GM-LABELS" in word:
                self.opened.relabel(folder, uid, sign, names)
            else:
                self.opened.change(folder, uid, sign, set(names) - {"\\Recent"})
            if uid in folder.messages:
                self.seen[uid] = folder.modseq[uid]
                if not silent or limit is not None:
                    wanted = "X-GM-LABELS" if "X-GM-LABELS" in word else "FLAGS"
                    self.fetched(self.view.index(uid) + 1, uid, ["UID", *([] if silent else [wanted]), "MODSEQ"])
        return f"[MODIFIED {show.compact(refused)}] Conditional STORE failed" if refused else None

    def copy(self, verb: str, args: Args) -> str | None:
        moving, folder = verb.endswith("MOVE"), self.there
        if moving and self.read_only:
            raise Refused("[CANNOT] The folder is read-only")
        try:
            target = self.opened.folder(str(args[1]))
        except Refused as error:
            raise Refused("[TRYCREATE] No folder " + str(args[1])) from error
        found = self.opened.copy(folder, self.uids(args[0], verb.startswith("UID")), target.name, moving)
        if not found:
            return "Nothing to do"
        told = f"[COPYUID {target.uidvalidity} {show.listed(found)} {show.listed(found.values())}]"
        if moving:
            self.say("* OK ", told, " (Success)")
            return "Done"
        return told + " (Success)"

    def append(self, verb: str, args: Args) -> str:
        flags = [str(flag) for flag in args[1]] if isinstance(args[1], list) else []
        raw, date = args[-1].raw, int(time.time())
        dates = [each for each in args[1:-1] if not isinstance(each, list)]
        if dates:
            date = show.internal_time(str(dates[0]))
        try:
            folder = self.opened.folder(str(args[0]))
        except Refused as error:
            raise Refused("[TRYCREATE] No folder " + str(args[0])) from error
        uid = self.opened.append(folder.name, raw, flags, date)
        return f"[APPENDUID {folder.uidvalidity} {uid}] (Success)"

    def expunge(self, verb: str, args: Args) -> None:
        if self.read_only:
            raise Refused("[CANNOT] The folder is read-only")
        self.opened.expunge(self.there, set(self.uids(args[0], True)) if args else None)

    def search(self, verb: str, args: Args) -> None:
        extended = bool(args) and str(args[0]).upper() == "RETURN"
        args = args[2:] if extended else args
        if args and str(args[0]).upper() == "CHARSET":
            args = args[2:]
        by_uid = verb.startswith("UID")
        test = show.criteria(self, list(args))
        found = [uid for uid in self.view if uid in self.there.messages and test(uid)]
        numbers = found if by_uid else [self.view.index(uid) + 1 for uid in found]
        if extended:
            self.say(f'* ESEARCH (TAG "x"){" UID" if by_uid else ""}', f" ALL {show.compact(numbers)}" if found else "")
        else:
            self.say("* SEARCH", *(f" {number}" for number in numbers))


OPEN = frozenset({"CAPABILITY", "LOGIN", "AUTHENTICATE", "NOOP", "ID"})
HANDLERS: dict[str, Any] = {
    "CAPABILITY": Connection.capability, "LOGIN": Connection.login, "AUTHENTICATE": Connection.authenticate,
    "ID": Connection.id, "ENABLE": Connection.enable, "NOOP": Connection.noop, "CHECK": Connection.noop,
    "NAMESPACE": Connection.namespace, "LIST": Connection.list_, "LSUB": Connection.list_, "STATUS": Connection.status,
    "CREATE": Connection.create, "RENAME": Connection.rename, "DELETE": Connection.delete,
    "SUBSCRIBE": Connection.subscribe, "UNSUBSCRIBE": Connection.subscribe, "SELECT": Connection.select,
    "EXAMINE": Connection.select, "UNSELECT": Connection.unselect, "CLOSE": Connection.unselect,
    "APPEND": Connection.append, "EXPUNGE": Connection.expunge, "UID EXPUNGE": Connection.expunge,
}  # fmt: skip
for _verb in ("FETCH", "STORE", "COPY", "MOVE", "SEARCH"):
    HANDLERS[_verb] = HANDLERS[f"UID {_verb}"] = getattr(Connection, {"MOVE": "copy"}.get(_verb, _verb.lower()))
