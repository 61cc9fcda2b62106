"""The bug bank: faults that real clients had, or that are easy to imagine, as small changes to the text of the core.

Each is put into the running code by `planted` and taken out again. When the core is changed so that a bug's text is no
longer found, `planted` says so: then the bug has to be written anew, not dropped.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

__all__ = ["BUGS", "Bug", "Change", "planted"]


@dataclass(frozen=True, slots=True)
class Change:
    """In the function ``target`` (module:Class.function) the text ``old`` becomes ``new``.

    The module is one of the core, or is named with the package of a client.
    """

    target: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug. ``seen`` tells where it comes from, in words."""

    name: str
    seen: str
    changes: tuple[Change, ...]


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The core with this bug in it."""
    with ExitStack() as stack:
        for change in bug.changes:
            stack.enter_context(_changed(change))
        yield


@contextmanager
def _changed(change: Change) -> Iterator[None]:
    module_name, _, path = change.target.partition(":")
    module = importlib.import_module(module_name if module_name.startswith("nats_") else f"nats_proto.{module_name}")
    owner_name, _, name = path.rpartition(".")
    owner = getattr(module, owner_name) if owner_name else module
    before: Any = owner.__dict__[name]
    function = before.fget if isinstance(before, property) else before
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(change.old) != 1:
        raise LookupError(f"{change.target} does not have this text once: {change.old!r}")
    namespace: dict[str, Any] = {}
    code = compile(
        "from __future__ import annotations\n" + source.replace(change.old, change.new), change.target, "exec"
    )
    exec(code, module.__dict__, namespace)
    wrong = namespace[name]

    def put(there: object, other: object) -> None:
        for one in [owner] if owner_name else [m for m in _modules() if m.__dict__.get(name) is there]:
            setattr(one, name, other)

    put(before, wrong)
    try:
        yield
    finally:
        put(wrong, before)  # also in modules that have imported it meanwhile


def _modules() -> list[ModuleType]:
    """Every module of the core and of the clients: a function may have been imported by name."""
    packages = ("nats_proto.", "nats_sync.", "nats_anyio.")
    return [module for name, module in sys.modules.items() if name.startswith(packages)]


BUGS: Final[dict[str, Bug]] = {}


def bug(name: str, seen: str, *changes: tuple[str, str, str]) -> None:
    BUGS[name] = Bug(name, seen, tuple(Change(*change) for change in changes))


# --- what is written -------------------------------------------------------------------------------------------------

bug(
    "buffer cleared too late",
    "a Python client took the buffer out after the await of its write: what came meanwhile was gone",
    ("_session.outbox:Outbox.cut", "for operation in waiting:", "for operation in waiting[:0]:"),
)
bug(
    "half an operation replayed",
    "a Go client sent the rest of an operation on the next connection",
    (
        "_session.outbox:Outbox.begin",
        "self._aside.clear()",
        "done = self._sent_of_flight\n"
        "    if self._sealed and self._aside and done:\n"
        "        first = self._sealed[0].operations\n"
        "        if isinstance(first[0], bytes) and _is_publish(self._aside[0]):\n"
        "            self._sealed[0].size -= done\n"
        "            self.beside_tail -= done\n"
        "            first[0] = first[0][done:]\n"
        "    self._aside.clear()",
    ),
)
bug(
    "written twice",
    "what was handed over is kept as if it had not been",
    ("_session.outbox:Outbox.cut", "self._sent_late(sent)", "self._sent_late(0)"),
)
bug(
    "partly written counts as written",
    "an operation of which the transport took a part is forgotten",
    (
        "_session.outbox:Outbox._sent_late",
        ">= (size := encoded_size(aside[0]))",
        "+ encoded_size(aside[0]) - 1 >= (size := encoded_size(aside[0]))",
    ),
)
bug(
    "queue reordered on reconnect",
    "a Java client filtered its queue and put what was in flight behind what waited",
    ("_session.outbox:Outbox.begin", "self._sealed.extendleft(reversed(", "self._sealed.extend(("),
)
bug(
    "stale bytes in flight",
    "bytes of a failed handshake stay in flight: reports of the next connection are counted for them",
    ("_session.outbox:Outbox.abandon", "if self._open:", "if False:"),
)
bug(
    "publishes before subscriptions",
    "what was buffered goes out before the subscriptions are restored",
    (
        "_session.traffic:Traffic.link_up",
        "self.outbox.prepend(self.subs.restore(self.encoder))",
        "[self.outbox.append(operation) for operation in self.subs.restore(self.encoder)]",
    ),
)
bug(
    "publishes in the handshake",
    "buffered publishes leave with CONNECT",
    ("_session.session:Session.data_to_send", "BATCH_SIZE if takes else 0", "BATCH_SIZE"),
)
bug(
    "buffer without a limit",
    "a Python client buffers without end while there is no connection",
    ("_session.life_cycle:LifeCycle.check_publish", "if waiting >= limit:", "if False:"),
)
bug(
    "never writable again",
    "the high-water mark is not taken back",
    ("_session.outbox:Outbox.sent", "self.full = False", "pass"),
)
bug(
    "too large for the next server",
    "a publish that was taken when more was allowed costs one connection after the other",
    ("_session.traffic:Traffic._connection_made", "self.drop_refused()", "pass"),
)
bug(
    "sent long after it was given up",
    "a request whose caller was told that nobody answered is sent when there is a connection again",
    ("_session.traffic:Traffic._connection_made", "self._drop_late(now)", "pass"),
)
bug(
    "awaited and not sent",
    "requests that wait for a connection are given up although their callers wait",
    ("_session.inbox:RequestInbox.awaits_reply", "in self._waiting", "in self._waiting and False"),
)
bug(
    "refused while it was written",
    "a publish is written again to the server that refused it in the middle",
    ("_session.traffic:Traffic.link_lost", "self.drop_refused()", "pass"),
)
bug(
    "dropped request waits",
    "a request whose publish was dropped waits for its time to be up",
    ("_session.traffic:Traffic.drop_refused", "self._complete(failed)", "pass"),
)

# --- subscriptions ---------------------------------------------------------------------------------------------------

bug(
    "full maximum after reconnect",
    "the server is told the whole maximum again, not what remains of it",
    ("_session.subscription:SubscriptionState.connection_max", " - self.received_before", ""),
)
bug(
    "dead subscription restored",
    "a subscription that has ended stays in the table",
    (
        "_session.subscription_table:SubscriptionTable.close",
        "self._by_sid.pop(sub.sid, None)",
        "self._by_sid.get(sub.sid)",
    ),
)
bug(
    "queue group forgotten",
    "after a reconnect a member of a queue group gets everything",
    ("_session.subscription_table:SubscriptionTable.restore", "sub.queue, sub.sid", "None, sub.sid"),
)
bug(
    "drain drops late messages",
    "a Zig client closes the queue before the messages between UNSUB and PONG are there",
    (
        "_session.traffic:Traffic.end_drains",
        "self.round_trip(lambda _now: self._close_drained(subs))",
        "self._close_drained(subs)",
    ),
)
bug(
    "slow consumer for every drop",
    "a Python client reports each dropped message",
    ("_session.subscription_table:SubscriptionTable._drop", "if sub.slow:", "if False:"),
)
bug(
    "pending bytes leak",
    "what was read from a queue still counts against its limit",
    ("_session.subscription:SubscriptionState.count_taken", "self.queued_bytes -= count * size", "pass"),
)

# --- requests and flushes --------------------------------------------------------------------------------------------

bug(
    "reply slot kept",
    "a request that was given up leaves its slot behind",
    ("_session.inbox:RequestInbox.cancel", "self._waiting.pop(key, None)", "pass"),
)
bug(
    "answer to another request",
    "a late reply resolves whatever request is the only one waiting",
    (
        "_session.inbox:RequestInbox.receive",
        "waiting = self._waiting.pop(key, None)",
        "waiting = self._waiting.pop(key, None) or (self._waiting.popitem()[1] if len(self._waiting) == 1 else None)",
    ),
)
bug(
    "flush waits for another connection",
    "a .NET client failed flushes too early to catch those of the new connection; here they are not failed at all",
    ("_session.traffic:Traffic.link_lost", "self.fail_flushes(lost)", "pass"),
)
bug(
    "flush answered by any PONG",
    "the newest flush takes the oldest PONG",
    ("_connection.keep_alive:KeepAlive.pong_received", "self._on_wire.popleft()", "self._on_wire.pop()"),
)
bug(
    "keep-alive PONG completes a flush",
    "PINGs of the keep-alive are not in the row of those awaited",
    ("_connection.keep_alive:KeepAlive.ping", "self._on_wire.append(None)", "pass"),
)

# --- connections -----------------------------------------------------------------------------------------------------

bug(
    "old socket still read",
    "a JavaScript client went on reading the socket that it had replaced",
    ("_session.link:Link._drop_connection", "self.connection.close()\n        self.connection = None", "pass"),
)
bug(
    "parser kept across connections",
    "half a message of the old connection swallows the INFO of the new one",
    (
        "_session.link:Link.transport_connected",
        "self._layers = self.connection.layers",
        "self._layers = self.connection.layers\n    _kept = globals().setdefault('_KEPT_PARSERS', {})\n"
        "    self.connection._parser = _kept.setdefault(id(self._pool), self.connection._parser)",
    ),
    ("_session.link:Link.start", "self._attempts.start", "globals().pop('_KEPT_PARSERS', None); self._attempts.start"),
)
bug(
    "PONGs drive the ping counter",
    "a Python client counted flush PONGs down, and a dead link was noticed too late",
    ("_connection.keep_alive:KeepAlive.pong_received", "self.unanswered = 0", "self.unanswered -= 1"),
)
bug(
    "data is taken for a PONG",
    "a Python client took any byte for a sign of life: a half-open link is never noticed",
    (
        "_connection.connection:Connection.receive_messages",
        "frames = self._parser.receive_batches(data)",
        "frames = self._parser.receive_batches(data)\n    if self._keep_alive.next_at is not None:\n"
        "        self._keep_alive.next_at = now + self._options.ping_interval",
    ),
)
bug(
    "handshake without end",
    "each byte of a slow INFO gives the handshake its whole time again",
    (
        "_connection.connection:Connection._read",
        "if self._state is not _CLOSED:",
        "if self._deadline is not None:\n        self._deadline = now + self._options.connect_timeout\n"
        "    if self._state is not _CLOSED:",
    ),
)
bug(
    "only written, and ended by it",
    "the last byte of a client that closes is written, and its adapter is told to look for nothing",
    (
        "_session.session:Session.data_sent",
        "link.calm and not (link.commands or self._events or life.successor is not None)",
        "True",
    ),
)
bug(
    "timer in the past",
    "the keep-alive deadline is not moved on",
    ("_connection.keep_alive:KeepAlive.ping", "self.next_at = now + self._interval", "pass"),
)
bug(
    "PINGs unanswered",
    "a server's PING in the handshake is forgotten",
    ("_connection.connection:Connection._handle_open", "self.pongs_owed += 1", "pass"),
)
bug(
    "unknown error ends all",
    "a Go client closes for good over an -ERR that it does not know",
    ("_connection.server_errors:classify_server_error", "text=shown), Reaction.KEEP", "text=shown), Reaction.CLOSE"),
)

# --- the pool --------------------------------------------------------------------------------------------------------

bug(
    "middle servers starved",
    "a Zig client took the last server for the one it removed: the middle was never tried",
    ("_servers.pool:ServerPool.next_attempt", "self._ahead.popleft()", "self._ahead.pop()"),
)
bug(
    "no rest between dials",
    "with one server the wait is skipped: a tight loop",
    ("_servers.pool:ServerPool._earliest", "if self._hurry or self._rounds is not None:", "if True:"),
    ("_servers.pool:ServerPool._wait_after", "chosen = self._chosen_wait(rounds)", "return 0.0\n    chosen = None"),
)
bug(
    "lost server dialled first",
    "the server that was just lost, a lame duck maybe, is tried before the others",
    (
        "_servers.pool:ServerPool.record_success",
        "self._behind = deque([entry])",
        "self._behind = deque()\n    self._ahead.appendleft(entry)",
    ),
)
bug(
    "refusals never forgotten",
    "a success in between does not reset the authentication error",
    ("_servers.pool:ServerPool.record_success", "entry.refusal = None", "pass"),
)
bug(
    "gossip drops a named server",
    "a server that the user named leaves with the gossip",
    ("_servers.pool:ServerPool.discover", "entry.server.explicit or ", ""),
)
bug(
    "delay awaited for ever",
    "a user's function that says how long to wait, and never returns, ends all reconnecting",
    ("_session.attempts:Attempts._next", "self._timers.answer = now + self._options.connect_timeout", "pass"),
)
bug(
    "late delay counts",
    "the answer to an earlier question, which was not waited for, is taken for that to another one",
    ("_session.delay:DelayQuestion.said", "command.effect is not self._asked", "self._asked is None"),
)
bug(
    "attempts never end",
    "each attempt counts twice",
    ("_servers.pool:ServerPool.next_attempt", "self._number += 1", "self._number += 2"),
)

# --- the life cycle --------------------------------------------------------------------------------------------------

bug(
    "second loop",
    "reconnect() while reconnecting begins anew beside what is under way",
    ("_session.life_cycle:LifeCycle.reconnect", "self.link.hurry(now=now)", "self.link.retry(None, now=now)"),
)
bug(
    "Closed before the last event",
    "the last event is not the last",
    (
        "_session.life_cycle:LifeCycle._end",
        "if self.link.up:",
        "self.events.add(Closed(error=self._close_error))\n    if self.link.up:",
    ),
)
bug(
    "drain leaves a lame duck behind",
    "moving away from a lame duck goes on in the middle of a drain",
    ("_session.link:Link.session_ends", "self.timers.migrate = None", "pass"),
)
bug(
    "drain forgets to write",
    "the drain ends when the queues are read, not when what was published is written",
    (
        "_session.life_cycle:LifeCycle.drain_progress",
        "self._flush_at_last(drain)",
        "self.traffic.outbox.clear(); self.finish(None, now)",
    ),
)
bug(
    "quiet moment missed",
    "the moment to leave a lame duck is noticed at the next call, whatever that is for",
    ("_session.life_cycle:LifeCycle._wanted_now", " or (self.link.migrating and self.traffic.quiet)", ""),
)
bug(
    "heard after the end",
    "what stands behind the last PONG of a drain in the same chunk makes events after Closed",
    ("_session.link:Link._drop_connection", "self._unheard.clear()", "pass"),
)
bug(
    "drain waits for a call",
    "a drain goes on only when somebody tells that messages were read",
    ("_session.life_cycle:LifeCycle._wanted_now", "self._drain_is_due or ", ""),
)
bug(
    "published into the void",
    "a drain that has lost its connection takes publishes that nobody will send",
    ("_session.life_cycle:LifeCycle.check_publish", "if self._drain is not None and not", "if False and not"),
)
