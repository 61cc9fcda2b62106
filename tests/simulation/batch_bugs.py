"""The bank of bugs of batches, and of a publisher whose servers allow less: as that of the other machines."""

from __future__ import annotations

from typing import Final

from tests.simulation.bugs import Bug, Change

__all__ = ["BATCH_BUGS"]

BATCH_BUGS: Final[dict[str, Bug]] = {}


def bug(name: str, seen: str, *changes: tuple[str, str, str]) -> None:
    BATCH_BUGS[name] = Bug(name, seen, tuple(Change(*change) for change in changes))


# --- what a session gives up -----------------------------------------------------------------------------------------

bug(
    "dropped publishes not told",
    "a publish that the session has given up ended by its time-out, with an outcome that is not known",
    (
        "_session.traffic:Traffic.drop_refused",
        "self.subs.publish_dropped(refusal.reply, refusal.error)",
        "pass",
    ),
)
bug(
    "dropped publishes called unknown",
    "what was never handed over may be stored, it was said",
    (
        "_publishing.window:PublishWindow.publish_dropped",
        "self._rest_no_more(pending)",
        "pending.unknown = True",
    ),
)

# --- all or nothing --------------------------------------------------------------------------------------------------

bug(
    "commit sent twice",
    "a commit without an answer is sent again, and its refusal says that nothing is stored, which all of it is",
    ("_publishing.atomic_batch:AtomicBatch._ask", "has_id=False", "has_id=True"),
)
bug(
    "commit certainly failed",
    "a commit without an answer is said to have stored nothing",
    (
        "_publishing.atomic_batch:AtomicBatch._ask",
        "raise made from error.__cause__",
        "made.outcome = 'failed'; raise made from error.__cause__",
    ),
)
bug(
    "message of a batch not sent",
    "one that was held back is forgotten when the next one is added",
    (
        "_publishing.atomic_batch:AtomicBatch._add",
        "yield Publish(held.subject, held.data, None, held.headers)",
        "pass",
    ),
)
bug(
    "commit not marked",
    "the last message is sent as all others",
    ("_publishing.atomic_batch:AtomicBatch._commit", 'held.headers.add(BATCH_COMMIT, "1")', "pass"),
)

# --- one after the other ---------------------------------------------------------------------------------------------

bug(
    "sent counts as acknowledged",
    "an acknowledgement is taken for one of all that was sent",
    ("_publishing.fast_ingest:FastIngest.receive", "max(self.acknowledged, min(answer.seq, self.sent))", "self.sent"),
)
bug(
    "no bound of what is not acknowledged",
    "the server is flooded",
    (
        "_publishing.fast_ingest:FastIngest._allowed",
        "self._flow * self._max_outstanding",
        "10 * self._flow * self._max_outstanding",
    ),
)
bug(
    "loss counted twice",
    "what a question has told once more is counted once more",
    (
        "_publishing.fast_ingest:FastIngest._lost",
        "max(answer.last_seq, self._told_until, 1)",
        "max(answer.last_seq - 1, 1)",
    ),
)
bug(
    "refusals make no room",
    "a stream that refuses a whole window is waited for without end",
    (
        "_publishing.fast_ingest:FastIngest.receive",
        "self._looked_at = max(self._looked_at, min(answer.seq, self.sent))",
        "pass",
    ),
)
bug(
    "no responders for a question",
    "a question that nobody took was taken for the first message, which was stored: certainly failed",
    ("_publishing.fast_ingest:FastIngest.receive", "(self._opened or asked)", "self._opened"),
)
bug(
    "refusal of the whole is certain",
    "a refused message ends the ingest: the error says that nothing is stored, and what came before is",
    ("_publishing.fast_ingest:FastIngest._last_answer", 'error.outcome = "unknown"', "pass"),
)
bug(
    "number not free again",
    "a message that found no room keeps its number, and counts as lost",
    ("_publishing.fast_ingest:FastIngest.failed", "self.sent -= 1", "pass"),
)
