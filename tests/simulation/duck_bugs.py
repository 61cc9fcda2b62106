"""The bank of bugs of leaving lame ducks: as that of the sessions."""

from __future__ import annotations

from typing import Final

from tests.simulation.bugs import Bug, Change

__all__ = ["DUCK_BUGS"]

DUCK_BUGS: Final[dict[str, Bug]] = {}


def bug(name: str, seen: str, *changes: tuple[str, str, str]) -> None:
    DUCK_BUGS[name] = Bug(name, seen, tuple(Change(*change) for change in changes))


bug(
    "drained member waits for one server",
    "a subscription that is drained while two servers deliver closes when the old one has said all",
    (
        "_session.traffic:Traffic.drain_subscription",
        "awaited = self.handover is not None and self.handover.drains(sub)",
        "awaited = False",
    ),
)
bug(
    "drain comes back to the duck",
    "a session that drains while two servers deliver closes the new connection with what is on its way",
    ("_session.successor:Successor.begin_drain", "self._state in (_State.JOINING, _State.SPREADING)", "False"),
)
bug(
    "drain comes back before it has joined",
    "the same, as long as the new server has not answered the subscriptions",
    ("_session.successor:Successor.begin_drain", "in (_State.JOINING, _State.SPREADING)", "is _State.SPREADING"),
)
bug(
    "joined goes by the answer",
    "the duck is lost before the new server has answered the subscriptions, and that is given up as well",
    ("_session.successor:Successor.joined", "_State.JOINING", "_State.SPREADING"),
)
bug(
    "late answer begins anew",
    "the answer to the subscriptions comes when a drain has gone on: the goodbye is said a second time",
    ("_session.successor:Successor._take", "if self._state is _State.JOINING:", "if True:"),
)
bug(
    "duck dropped in the middle",
    "the new server is a lame duck as well, and its connection is closed with what is on its way",
    (
        "_session.successor:Successor._take_info",
        " or (self._state >= _State.JOINING and self._handover.has_members)",
        "",
    ),
)
bug(
    "drain on the way ends with the duck",
    "a subscription whose drain begins behind the goodbye closes when the duck is lost",
    ("_session.handover:Handover.drains", "if sub.sid not in", "if self._phase is _Phase.COMMITTED or sub.sid not in"),
)
bug(
    "stranded leaves at once",
    "the new connection is lost behind the goodbye, and what the old server has said before it is not waited for",
    ("_session.successor:Successor._fail", "if said_all:", "if True:"),
)
bug(
    "copies forgotten",
    "another lame duck ends the wait for late copies of messages",
    ("_session.life_cycle:LifeCycle._begin_succession", "return  #", "self.successor.cancel()  #"),
)
bug(
    "copies forgotten by a drain",
    "so does a drain",
    ("_session.successor:Successor.committed", "_State.LINGERING", "_State.LEFT_ALONE"),
)
