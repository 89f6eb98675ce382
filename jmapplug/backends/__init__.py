"""What a backend plugin brings: the contracts between the core and an upstream (design §1, §4).

A :class:`Backend` opens a :class:`Session` for an account; a Session offers sources. The core never names a backend.
The heart is :class:`MailSource`, in the words of IMAP but open to others; :class:`SubmissionSource`,
:class:`SieveSource` and :class:`QuotaSource` stand beside it, each optional. Words: *key* is the raw upstream name of a
mailbox (bytes, the identity of a folder upstream); *uid* is IMAP's UID; times are unix seconds (UTC).
Every method that goes to the network raises ``UpstreamError`` (``AuthenticationError`` for refused credentials), never
a wrong or shortened answer: a broken connection must not look like an empty folder.
"""

from __future__ import annotations

from jmapplug.backends.mail import (
    HEADER_FIELDS,
    NO_IDS,
    Appended,
    Changes,
    Copied,
    Detail,
    Features,
    Folder,
    Item,
    MailSource,
    NewMessage,
    Rights,
    SearchTerm,
    SyncPoint,
    Views,
    Watch,
)
from jmapplug.backends.quota import (
    Quota,
    QuotaSource,
)
from jmapplug.backends.session import (
    Backend,
    Session,
)
from jmapplug.backends.sieve import (
    SieveFeatures,
    SieveSource,
)
from jmapplug.backends.submission import (
    Answered,
    Delivery,
    EnvelopeAddress,
    SubmissionFeatures,
    SubmissionSource,
)

__all__ = [
    "HEADER_FIELDS",
    "NO_IDS",
    "Answered",
    "Appended",
    "Backend",
    "Changes",
    "Copied",
    "Delivery",
    "Detail",
    "EnvelopeAddress",
    "Features",
    "Folder",
    "Item",
    "MailSource",
    "NewMessage",
    "Quota",
    "QuotaSource",
    "Rights",
    "SearchTerm",
    "Session",
    "SieveFeatures",
    "SieveSource",
    "SubmissionFeatures",
    "SubmissionSource",
    "SyncPoint",
    "Views",
    "Watch",
]
