"""``python -m jmapplug.demo.imap_server …``: pymap's own command line, with its COPY mended.

The maildir backend of pymap 0.36 copies what it knows of a message and not the message: the copy is empty. A mail
client that files a message in two folders and then takes it out of the first one would lose it.
"""

from __future__ import annotations

from typing import Any

from pymap.backend.maildir.mailbox import MailboxData
from pymap.backend.maildir.uidlist import Record, UidList
from pymap.main import main


async def copy(self: Any, uid: int, destination: Any, *, recent: bool = False) -> int | None:
    """The whole message into the other folder; its UID there, None where it is gone."""
    try:
        record, _ = await self._get_maildir_msg(uid)
        async with self.messages_lock.read_lock():
            message = self._maildir.get_message(record.key)
    except (KeyError, FileNotFoundError):
        return None
    message.set_subdir("new" if recent else "cur")
    async with destination.messages_lock.write_lock():
        name = destination._maildir.add(message) + ":" + message.get_info()
    async with UidList.with_write(destination._path) as uids:
        made = Record(uids.next_uid, record.fields, name)
        uids.next_uid += 1
        uids.set(made)
    return int(made.uid)


if __name__ == "__main__":
    MailboxData.copy = copy  # type: ignore[method-assign]
    main()
