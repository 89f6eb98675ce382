"""What must always hold of an account, checked by reading its mail server, an SMTP server and JMAP.

====  ==================================================================================================================
I1    Every UNDELETED message on the server is a copy of exactly one Email in that Mailbox, and the other way round.
I2    What a /set acknowledged is on the server.
I3    /changes (and queryChanges) from any state ever handed out lead to what /get (and /query) say now.
I4    The SMTP server took each submission at most once, and exactly once if it was acknowledged.
I5    An id never changes its message and never stands for another one later; a message keeps its id.
I6    Nothing is written to messages that the client did not name.
====  ==================================================================================================================

A *breach* is a sentence that begins with the invariant's number; every check is a generator of breaches. ``held`` is
what the mail server has (:mod:`.upstream`), ``view`` what JMAP shows (:mod:`.jmap_view`). As a program: ``__main__``.
"""
