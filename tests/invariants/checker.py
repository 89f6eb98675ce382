"""One account's invariants, checked again and again as it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jmapplug.testing.proxy import Client

from . import rules
from .jmap_view import View, look
from .replay import replayed
from .rules import Ledger
from .upstream import Held, Upstream


class Checker:
    """Remembers every view that was handed out, and what its ids meant. ``client`` gives one that is connected.

    ``reborn``: Emails and Threads that were out of sight between two views: told as created, although known before.
    """

    def __init__(self, upstream: Upstream, client: Callable[[], Client]) -> None:
        self.upstream, self.client = upstream, client
        self.history: list[View] = []
        self.ledger = Ledger()
        self.reborn: set[str] = set()
        self.held: Held
        self.view: View

    def move(self, upstream: Upstream) -> None:
        """The account is at another server: what that one calls things says nothing of what they were called before."""
        self.upstream = upstream
        self.ledger.groups.clear()
        self.ledger.boxes.clear()

    def forget(self) -> None:
        """What gave the ids is lost: nothing that was told before holds."""
        self.history.clear()
        self.ledger = Ledger()

    def breaches(self, last: int | None = None, sample: int = 0, one_by_one: int = 0) -> Iterator[str]:
        """I1, I3 and I5 as they stand. ``last``: replay from so many states only; ``one_by_one``: of those, so many

        with maxChanges 1. ``sample``: so many Emails' octets are compared.
        """
        self.held, self.view = self.upstream.look(), look(self.client())
        found = list(rules.conservation(self.held, self.view))
        yield from found
        if not found:
            yield from self.ledger.note(self.held, self.view)
        yield from self._octets(sample)
        for before in self.history:
            self.reborn |= before.emails.keys() - self.view.emails.keys()
            self.reborn |= before.threads.keys() - self.view.threads.keys()
        client = self.client()
        states = self.history[-last:] if last else self.history
        for at, before in enumerate(reversed(states)):
            yield from replayed(client, before, self.view, reborn=self.reborn, one_by_one=at < one_by_one)
        self.history.append(self.view)

    def _octets(self, sample: int) -> Iterator[str]:
        held, view = self.held, self.view
        some = sorted(view.emails)[:: max(1, len(view.emails) // sample)] if sample else []
        yield from rules.contents(held, view, lambda one: self.upstream.content(held, one), self._download, some)

    def _download(self, blob: str) -> bytes:
        client = self.client()
        reply = client.send("GET", f"/raw/{client.account}/{blob}/message.eml")
        assert reply.status == 200, reply
        return reply.body
