"""A :class:`Scene` on the tests' Gmail: Starred is a keyword there, and a message's identity is X-GM-MSGID."""

from __future__ import annotations

from typing import Any

from scene import Scene

INBOX, ALL, TRASH, SPAM = ("Inbox",), ("[Gmail]", "All Mail"), ("[Gmail]", "Trash"), ("[Gmail]", "Spam")
DRAFTS, SENT, IMPORTANT = ("[Gmail]", "Drafts"), ("[Gmail]", "Sent Mail"), ("[Gmail]", "Important")


class GmailScene(Scene):
    """The other client names folders by their raw names here."""

    def box(self, *path: str) -> str:
        """The id of a Mailbox."""
        return self.look().paths()[path]

    def where(self, ident: str) -> set[str]:
        """The names of the Mailboxes that an Email is in."""
        view = self.look()
        return {view.path(box)[-1] for box in view.emails[ident]["mailboxIds"]}

    def done(self, **args: Any) -> dict[str, Any]:
        """An Email/set in which nothing fails, and after which the server has nothing new to tell (mail-rules 12)."""
        reply = self.jmap.call("Email/set", **args)
        failed = [reply[name] for name in ("notCreated", "notUpdated", "notDestroyed") if reply.get(name)]
        assert not failed, failed
        before = self.look()
        after = self.agree()
        assert after.states == before.states, "a pass told something that the write had not"
        return reply
