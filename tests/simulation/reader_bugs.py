"""The bank of bugs of handlers, push consumers and ordered readers: as that of the other machines."""

from __future__ import annotations

from typing import Final

from tests.simulation.bugs import Bug, Change

__all__ = ["AGE_BUGS", "READER_BUGS"]

READER_BUGS: Final[dict[str, Bug]] = {}
AGE_BUGS: Final[dict[str, Bug]] = {}
"""Of how old messages are: looked for with a reader that is slow."""


def bug(name: str, seen: str, *changes: tuple[str, str, str]) -> None:
    READER_BUGS[name] = Bug(name, seen, tuple(Change(*change) for change in changes))


# --- handlers --------------------------------------------------------------------------------------------------------

bug(
    "long handlers not kept alive",
    "a message is given to somebody else while its handler is at work: agents and jobs ran twice",
    ("_consuming.work:Work.overdue", "if now < self._look_at:", "if True:"),
)
bug(
    "kept alive once",
    "a handler that takes several times the wait loses its message at the second third",
    ("_consuming.work:Work.overdue", "due = now + part\n", "due = NEVER\n"),
)
bug(
    "ended counts as held",
    "with each message that is over less is asked for, until nothing is",
    ("_consuming.prefetch:Prefetch.ended", "self.held -= count", "pass"),
)
bug(
    "ended counts twice",
    "more is asked for and held than the handlers have places for: a worker takes what others could handle",
    ("_consuming.prefetch:Prefetch.ended", "self.held -= count", "self.held -= 2 * count"),
)
bug(
    "old messages begun",
    "after the process was stopped for long it handles what others have by now",
    ("_consuming.work:Work.is_fresh", "return now < due + (PARTS - 1) * part", "return True"),
)

bug(
    "old messages taken for new ones",
    "after the process was stopped for long it begins what lay in the system meanwhile, twice and more",
    ("_consuming.work:Work._was_away", "self._since = min(self._since, self._away_at - self._patience)", "pass"),
)
bug(
    "never caught up",
    "a worker that was stopped once takes all that comes from then on for too old",
    ("_consuming.work:Work.caught_up", "if number == self._catching_up:", "if False:"),
)

# --- push ------------------------------------------------------------------------------------------------------------

bug(
    "flow control not answered",
    "the server waits for an answer, and delivers nothing any more",
    ("_consuming.push:Push._status", "self.wants.append(Publish(subject))", "pass"),
)
bug(
    "lost flow control not answered",
    "the question was lost, and the heart-beats that repeat it are not read",
    ("_consuming.push:Push._status", "None if headers is None else headers.get(STALLED)", "None"),
)
bug(
    "silent push consumer",
    "a push consumer that is gone is listened to for ever",
    ("_consuming.push:Push.handle_timeout", "if now < due:", "if True:"),
)
bug(
    "push consumer not made again",
    "a push consumer that is gone is missed, and not made again",
    ("_consuming.push:Push._ask_again", "self._ask(self._create(info, sequence))", "pass"),
)

# --- ordered ---------------------------------------------------------------------------------------------------------

bug(
    "hole not seen",
    "a message that was lost on the way is not missed",
    ("_consuming.ordered:Ordered.receive", "int(parts[2]) == account.expected and", "True and"),
)
bug(
    "consumer kept with a new connection",
    "a server made the consumer anew, and what it sent at first was lost: it came to the next number behind a hole",
    (
        "_consuming.ordered:Ordered._look_after",
        "elif inner.wants and isinstance(inner.wants[0], Subscribe):",
        "elif False:",
    ),
)
bug(
    "begins one too late",
    "after each rebuild a message is missing",
    (
        "_consuming.ordered:Ordered._next_place",
        "self.sequence + 1 if self.sequence",
        "self.sequence + 2 if self.sequence",
    ),
)
bug(
    "begins where it has ended",
    "after each rebuild a message comes twice",
    ("_consuming.ordered:Ordered._next_place", "self.sequence + 1 if self.sequence", "self.sequence if self.sequence"),
    ("_consuming.ordered:Ordered.receive", "account.sequence < (sequence", "-1 < (sequence"),
)
bug(
    "rebuild that never comes",
    "the pause before the next consumer has no end",
    ("_consuming.ordered_making:Making.handle_timeout", "self._begin(now)", "pass"),
)
bug(
    "old consumers are left",
    "each rebuild leaves a consumer: a server had thousands of them, and no memory",
    ("_consuming.ordered_making:Making._delete", "if self._retired and self._deleting is None:", "if False:"),
    ("_consuming.ordered_making:Making._begin", "if len(self._retired) > MAX_RETIRED:", "if False:"),
)
bug(
    "consumer that is gone not rebuilt",
    "an ordered reader whose consumer was deleted waits for ever",
    ("_consuming.ordered:Ordered._look_after", "if inner.done:", "if False:"),
)

bug(
    "consumer made anew is believed",
    "a killed server made the consumer anew: its numbers came to the one that was expected, behind a hole",
    ("_consuming.ordered:Ordered._out_of_order", "elif reply != self.account.newest:", "elif False:"),
)

# --- messages that lie unread ----------------------------------------------------------------------------------------


def age_bug(name: str, seen: str, *changes: tuple[str, str, str]) -> None:
    AGE_BUGS[name] = Bug(name, seen, tuple(Change(*change) for change in changes))


age_bug(
    "old messages handed out",
    "what was prefetched by a slow reader ran twice: here, and where the server had given it meanwhile",
    ("_consuming.consume:Consume._age", "return age", "return Age.YOUNG"),
)
age_bug(
    "young messages left out",
    "messages that are well within their time are given to nobody, and come a second time",
    ("_consuming.ages:Ages.judge", "kept = self._ack_wait * KEPT", "kept = self._ack_wait * 0.2"),
)
age_bug(
    "mark of another message",
    "how old a message is was read off the mark of one that had come before it",
    ("_consuming.ages:Ages.judge", "marks[0][1] < number:", "marks[0][1] < number - 10:"),
)
age_bug(
    "marks of the queue before",
    "after a new connection messages are as old as those that the old one had brought",
    ("_consuming.ages:Ages.renewed", "self._marks.clear()", "pass"),
)
age_bug(
    "handed out twice",
    "after the process was stopped it handles what lay unread twice once more",
    ("_consuming.repeats:Repeats.ask", "if not self._away:", "if True:"),
)
