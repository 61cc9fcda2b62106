"""The bank of bugs of leaving lame ducks: as that of the sessions."""

from __future__ import annotations

from typing import Final

from tests.simulation.bugs import Bug, Change

__all__ = ["DUCK_BUGS"]

DUCK_BUGS: Final[dict[str, Bug]] = {}


def bug(name: str, seen: str, *changes: tuple[str, str, str]) -> None:
    DUCK_BUGS[name] = Bug(name, seen, tuple(Change(*change) for change in changes))


bug(
    "drain waits for one server",
    "a subscription that is drained while two servers deliver closes when the old one has said all",
    ("_session.traffic:Traffic.end_drains", "if self.handover is not None:", "if False:"),
)
bug(
    "drain comes back to the duck",
    "a session that drains while two servers deliver closes the new connection with what is on its way",
    ("_session.successor:Successor.session_drains", "_State.JOINING", "_State.PARTING"),
)
bug(
    "drain comes back before it has joined",
    "the same, as long as the new server has not answered the subscriptions",
    ("_session.successor:Successor.session_drains", "_State.JOINING", "_State.SPREADING"),
)
bug(
    "drain ends with the duck",
    "the duck is lost behind the goodbye, and a session that drains gives the new connection up as well",
    ("_session.life_cycle:LifeCycle.link_down", "and not self._closing", "and self._drain is None"),
)
bug(
    "drain has lost nothing",
    "the same, it goes on, and does not say that the duck owed something",
    ("_session.life_cycle:LifeCycle.link_down", "self._drain.lose_one_of_two(error)", "pass"),
)
bug(
    "drain has lost no member",
    "the new connection is lost before the goodbye, and a session that drains does not say so",
    ("_session.life_cycle:LifeCycle.member_lost", "self._drain is not None", "False"),
)
bug(
    "drain between two has none",
    "a drain that begins when the duck is lost, and the new connection not adopted, gives that up",
    ("_session.life_cycle:LifeCycle.drain", "self.link.up or self._taken_over", "self.link.up"),
)
bug(
    "drain is over between two",
    "a drain that waits for no subscription ends then, with what waits to be sent",
    ("_session.life_cycle:LifeCycle._drain_is_due", "if self._taken_over:", "if False:"),
)
bug(
    "joined goes by the answer",
    "the duck is lost before the new server has answered the subscriptions, and that is given up as well",
    ("_session.successor:Successor.joined", "_State.JOINING", "_State.SPREADING"),
)
bug(
    "late answer begins anew",
    "the answer to the subscriptions comes when the duck is lost: nothing is adopted",
    ("_session.successor:Successor._take", "if self._state is _State.JOINING:", "if True:"),
)
bug(
    "duck dropped in the middle",
    "the new server is a lame duck as well, and its connection is closed with what is on its way",
    ("_session.successor:Successor._take_info", "_State.JOINING", "_State.PARTING"),
)
bug(
    "subscription's drain ends with the duck",
    "a subscription that is drained closes when the duck is lost, whatever the new server has for it",
    ("_session.traffic:Traffic.link_lost", " and self.handover is None", ""),
)
bug(
    "stranded leaves at once",
    "the new connection is lost behind the goodbye, and what the old server has said before it is not waited for",
    ("_session.successor:Successor._fail", "if not self._old_owes:", "if True:"),
)
bug(
    "held is thrown away",
    "both connections are lost before one is adopted, and with them what the new one has given",
    ("_session.handover:Handover.end", "is _Phase.COMMITTED:", "is _Phase.COMMITTED and self._traffic._up:"),
)
bug(
    "member counted by both",
    "two servers know a member with a maximum, and together give more than that",
    ("_session.handover:Handover.subscribed", "sub.queue is not None and sub.max_msgs is not None", "False"),
)
bug(
    "member stays at both",
    "the new server does not hear that a member has got a maximum",
    ("_session.handover:Handover.limited", "self.unsubscribed(sub.sid)", "pass"),
)
bug(
    "maximum of the old one",
    "a maximum that is set behind the goodbye is told as the old server would have counted it",
    ("_session.handover:Handover.limited", "self._later.get(sub.sid, False)", "True"),
)
bug(
    "subscribed twice",
    "what the old connection has not taken about subscriptions goes to the new server, which knows of them",
    ("_session.handover:Handover.commit", "traffic.outbox.drop_subscriptions()", "[]"),
)
bug(
    "copies waited for by the clock",
    "the new connection is far behind, or the process was stopped, and copies are given again",
    ("_session.successor:Successor.linger", "self._traffic.round_trip(self._caught_up)", "self._caught_up(now)"),
)
bug(
    "copies forgotten",
    "another lame duck ends the wait for late copies of messages",
    ("_session.life_cycle:LifeCycle._begin_succession", "return  #", "self.successor.cancel()  #"),
)
bug(
    "copies forgotten by a drain",
    "so does a drain",
    ("_session.successor:Successor.session_drains", "< _State.JOINING", "in (_State.WAITING, _State.LINGERING)"),
)
bug(
    "end of a subscription is not told",
    "what the old connection has not taken of the ends of subscriptions is told to nobody",
    ("_session.handover:Handover.commit", '[each for each in waiting if each.startswith(b"UNSUB")]', "[]"),
)
