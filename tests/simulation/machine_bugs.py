"""The bank of bugs of the machines: each is one that clients have had, or one that a change may bring.

They are planted as those of the core are (`bugs.planted`), and ``make simulate-power`` looks for each.
"""

from __future__ import annotations

from typing import Final

from tests.simulation.bugs import Bug, Change

__all__ = ["MACHINE_BUGS"]

MACHINE_BUGS: Final[dict[str, Bug]] = {}


def bug(name: str, seen: str, *changes: tuple[str, str, str]) -> None:
    MACHINE_BUGS[name] = Bug(name, seen, tuple(Change(*change) for change in changes))


# --- asking for messages ---------------------------------------------------------------------------------------------

bug(
    "reconnect ignored",
    "clients waited for the heart-beat, or the expiry, of requests that the old connection had taken with it",
    ("_consuming.consume:Consume.connection_replaced", "self._replaced_at = now", "pass"),
)
bug(
    "silence ignored",
    "a request that was lost on its way is waited for until it expires",
    ("_consuming.pulls:Pulls.silent", "bool(self._open) and", "False and"),
    ("_consuming.pulls:Pulls.expire", "now >= request.deadline", "False"),
)
bug(
    "lost end of a request",
    "a status that was lost is counted as outstanding for ever",
    ("_consuming.pulls:Pulls.expire", "if now >= request.deadline]", "if now >= request.deadline + 1e9]"),
)
bug(
    "remainder not given back",
    "what an expired request has not used counts as outstanding: less and less is asked for",
    ("_consuming.pulls:Pulls.end", "self.messages -= min(unused, request.batch)", "pass"),
    ("_consuming.pulls:Pulls._bound", "max(0, min(self.messages, most))", "max(0, self.messages)"),
)
bug(
    "remainder given back twice",
    "more is asked for than the reader wanted",
    ("_consuming.pulls:Pulls.end", "min(unused, request.batch)", "2 * min(unused, request.batch)"),
)
bug(
    "asked for the whole each time",
    "what is outstanding already is asked for once more",
    ("_consuming.asking:Asking.next_request", "demand.maximum - outstanding", "demand.maximum"),
)
bug(
    "messages not counted",
    "what came is still counted as outstanding: it asks again only when requests expire",
    ("_consuming.consume:Consume.receive", "left = account.messages - 1", "left = account.messages"),
)
bug(
    "no pause between requests",
    "a consumer without a leader is asked in a loop",
    ("_consuming.pacing:Pacing.failed", "if doublings < 0:", "if True:"),
)
bug(
    "pause without end",
    "after a pause nobody asks again",
    (
        "_consuming.consume:Consume.handle_timeout",
        "self._state = _State.ASKING\n            self.refill(now)",
        "pass",
    ),
)
bug(
    "old inbox kept",
    "requests that were given up bring their messages on top of those that are asked for anew",
    (
        "_consuming.consume:Consume._renew",
        "self.wants.append(self._pulls.subscribe(self._new_inbox(), None if ages is None else ages.opened))",
        "self._pulls.write_off() if self._pulls._prefix else "
        "self.wants.append(self._pulls.subscribe(self._new_inbox(), None if ages is None else ages.opened))",
    ),
)
bug(
    "leader change ends all",
    "a request that the new leader has is written off with those of the old one, and its messages asked for twice",
    ("_consuming.consume:Consume._leader_has_changed", "self._pulls.lose(request)", "self._pulls.write_off()"),
)
bug(
    "consumer not created again",
    "a consumer that is gone is waited for, although the reader was to make it",
    ("_consuming.consume:Consume._recreate", "self._create is not None and self._question is None", "False"),
)
bug(
    "no responders ends all",
    "a consumer without a leader was taken for one that is gone",
    ("_consuming.consume:Consume._unanswered", "self._warn(", "self._end(deleted(self.what)); self._warn("),
)
bug(
    "message handed out twice",
    "an item is made for a message that is also kept",
    (
        "_consuming.consume:Consume.receive",
        "self.items.append(self._make(message, now))",
        "self.items.append(self._make(message, now)); "
        "(message.reply or '').endswith('.0') and self.items.append(self._make(message, now))",
    ),
)

# --- batches ---------------------------------------------------------------------------------------------------------

bug(
    "fetch waits for a lost connection",
    "a Go client waited for the whole time of a fetch whose server had forgotten it",
    ("_consuming.fetch:Fetch._time_is_up", 'self._end(self._suspicion or "no_answer")', "self._deadline = now + 5.0"),
)
bug(
    "fetch without a deadline",
    "a request that will not wait and is not answered hangs",
    ("_consuming.fetch:Fetch.handle_timeout", "if now >= self._deadline:", "if now >= self._deadline + 30.0:"),
)
bug(
    "fetch gives too many",
    "what comes beyond the batch is given, too",
    (
        "_consuming.fetch:Fetch.receive",
        "if left < 0 or self.done:\n        return  # nobody asked for this one",
        "if self.done:\n        return\n    left = left or -1",
    ),
)
bug(
    "silence of a short fetch",
    "a fetch without heart-beats whose request was lost neither asks anew nor says why nothing came",
    ("_consuming.fetch:Fetch._pull", "silence = expires + _margin(rest) / 2 if", "silence = None if"),
)
bug(
    "one inbox for every request of a fetch",
    "the inbox has no wildcard: what the second request brings reaches nobody",
    ("_consuming.fetch:Fetch._pull", "if not self._pulls.may_ask:", "if False:"),
)
bug(
    "fetch ends without a reason",
    "an empty batch does not say why",
    ("_consuming.fetch:Fetch._end", "self.reason = reason", "self.reason = None if reason == 'expired' else reason"),
)

# --- publishing ------------------------------------------------------------------------------------------------------

bug(
    "acks that never come",
    "a publish whose acknowledgement is lost holds its place for ever",
    (
        "_publishing.window:PublishWindow.handle_timeout",
        "self._try_failed(pending, pending.last or self._silence(pending), now)",
        "pending.deadline = now + self._timeout",
    ),
)
bug(
    "sent again without an id",
    "a publish that may be stored is sent again, and stored twice",
    (
        "_publishing.retries:pause_before_retry",
        "if has_id and isinstance(error, NATSTimeoutError | ConnectionLostError)",
        "if isinstance(error, NATSTimeoutError | ConnectionLostError)",
    ),
    ("_publishing.window:PublishWindow._forgotten", "pending.unknown and not self._has_id(pending, now)", "False"),
)
bug(
    "sent when its id is forgotten",
    "what was tried again during an outage is sent when there is a connection again, and stored a second time",
    ("_session.traffic:Traffic._connection_made", "self._drop_late(now)", "pass"),
)
bug(
    "sent by who comes late",
    "another try that stood among the wants is sent by who waits next, however late he comes, and stored a second time",
    ("_calls.machine:Conductor.is_late", "awaits = self._awaits", "awaits = None"),
)
bug(
    "tried when its id is forgotten",
    "a publish that may be stored is tried for as long as it is refused for now, whatever the stream remembers",
    ("_publishing.window:PublishWindow._forgotten", "return pending.unknown and", "return False and"),
)
bug(
    "silence called certain",
    "a publish without an acknowledgement is said to have failed for certain",
    (
        "_publishing.window:PublishWindow._end",
        "pending.error = error",
        "pending.error = error; error.outcome = 'failed'",
    ),
)
bug(
    "earlier try forgotten",
    "the first try had no answer, the second was refused: said to have failed for certain",
    ("_publishing.retries:final_error", "if unknown else error", "if False else error"),
)
bug(
    "ack that has come before",
    "the acknowledgement of the last publish that had its reply subject completes the one that has it now",
    ("_publishing.window:PublishWindow._receive", "not pending.slot.is_later(pub_ack)", "False"),
)
bug(
    "ack of another publish",
    "an acknowledgement completes whatever waits longest",
    (
        "_publishing.window:PublishWindow._receive",
        "pending = self._waiting.get(message.subject)",
        "message = Message(next(iter(self._waiting), ''), 1, None, message.data, message.header_block)\n"
        "    pending = self._waiting.get(message.subject)",
    ),
)
bug(
    "no responders is final",
    "a publish during an election fails at once: kept, with an outcome that is wrong",
    (
        "_publishing.window:PublishWindow._not_acknowledged",
        "error = no_responders(pending.subject)",
        "self._waiting.pop(pending.reply, None); self._waiting[pending.reply] = pending; "
        "pending.deadline = 1e12; self._flight.look = 1e12; return",
    ),
)
bug(
    "lost at a reconnect",
    "a publish that was in flight at a cut is forgotten",
    (
        "_publishing.window:PublishWindow.connection_replaced",
        "self._replaced = now",
        "self._replaced = now; self._waiting.clear()",
    ),
)
