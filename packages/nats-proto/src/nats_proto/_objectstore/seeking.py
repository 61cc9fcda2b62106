"""Where in the stream an object has the chunk in which a range begins.

Theory of operation
-------------------
All chunks but the last have the same size, as a rule: then the number of the chunk is the offset divided by it. Not
every client writes them so. It is certain when the last chunk has just the bytes that are left: then all others are
full, since none is larger. So the last chunk is read first, which also tells its sequence.

The chunks of one put stand one behind another, unless others have written meanwhile. A consumer that begins at a
sequence tells how many messages it has before it, and so which chunk that is. The first guess, that nobody has written
meanwhile, is nearly always right; if not, it is narrowed down, a few times. What then is not found is read from the
beginning of the object, which takes longer and is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._calls.operation import Operation
from .._consuming.ordered_calls import OrderedCalls, ordered_config
from .._jetstream.consumer_info import ConsumerInfo
from .._jetstream.errors import MessageNotFoundError
from .._jetstream.stored_message import StoredMessage
from .._jetstream.stream_calls import get_last_msg
from .info import ObjectInfo
from .names import Subjects
from .reader import Start

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi

__all__ = ["find_chunk"]

MAX_GUESSES: Final = 12
PREFIX: Final = "seek"


def find_chunk(
    api: JetStreamApi, subjects: Subjects, info: ObjectInfo, offset: int, *, timeout: float | None
) -> Operation[Start]:
    """Where to begin reading, so that the byte at ``offset`` is in what comes: the beginning, where nothing else is
    certain."""
    size = 0 if info.options is None else info.options.max_chunk_size or 0
    if size < 1 or info.chunks != -(-info.size // size) or offset < size:
        return Start()
    try:
        last = yield from get_last_msg(api, subjects.stream, subjects.chunks(info.nuid), direct=True, timeout=timeout)
    except MessageNotFoundError:
        return Start()  # its reader finds out why
    if len(last.data) != info.size - (info.chunks - 1) * size:
        return Start()
    chunk = offset // size
    sequence = yield from _sequence_of(api, subjects, info, chunk, last)
    return Start() if sequence is None else Start(chunk, sequence, size)


def _sequence_of(
    api: JetStreamApi, subjects: Subjects, info: ObjectInfo, chunk: int, last: StoredMessage
) -> Operation[int | None]:
    behind = info.chunks - chunk
    """Chunks from this one on."""
    low, high = 1, last.sequence - behind + 1
    """It stands between these, both included."""
    guess = high
    for _ in range(MAX_GUESSES):
        if not low <= guess <= high:
            return None
        pending = yield from _pending_from(api, subjects, info.nuid, guess)
        if pending == behind:
            return guess
        if pending < behind:
            # So many more chunks are before the guess. Each takes one place at least.
            high = guess - (behind - pending)
            guess = max(low, min(high, guess - 2 * (behind - pending)))
        else:
            low = guess + (pending - behind)
            guess = (low + high + 1) // 2
    return None


def _pending_from(api: JetStreamApi, subjects: Subjects, nuid: str, sequence: int) -> Operation[int]:
    """How many of the object's chunks stand at this sequence and behind it."""
    config = ordered_config(filter_subjects=subjects.chunks(nuid), opt_start_seq=sequence, headers_only=True)
    calls = OrderedCalls(api, subjects.stream, config, prefix=PREFIX)
    made = yield from calls.create(calls.name(1), None).run(timeout=api.timeout)
    yield calls.forget(calls.name(1))
    return made.num_pending if isinstance(made, ConsumerInfo) else 0
