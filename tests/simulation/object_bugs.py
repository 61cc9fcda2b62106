"""The bank of bugs of the object store: as that of the other machines."""

from __future__ import annotations

from typing import Final

from tests.simulation.bugs import Bug, Change

__all__ = ["OBJECT_BUGS"]

OBJECT_BUGS: Final[dict[str, Bug]] = {}


def bug(name: str, seen: str, *changes: tuple[str, str, str]) -> None:
    OBJECT_BUGS[name] = Bug(name, seen, tuple(Change(*change) for change in changes))


# --- puts ------------------------------------------------------------------------------------------------------------

bug(
    "places not looked at",
    "one chunk was refused and those behind it stored: the bytes of the object stand in another order",
    ("_objectstore.writer:ObjectWriter._settle", "if chunk.sequence <= self._last:", "if False:"),
)
bug(
    "chunks without ids",
    "a chunk whose acknowledgement was lost is stored twice: digests of large objects were wrong",
    (
        "_objectstore.writer:ObjectWriter._send",
        'f"{self._identity}-{chunk.number}-{chunk.version}"',
        'f"{self._identity}-{chunk.number}-{chunk.version}-{chunk.tries}"',
    ),
)
bug(
    "mended while chunks are in flight",
    "a chunk is sent again while those behind it are on their way, which then stand before it",
    (
        "_objectstore.writer:ObjectWriter._mend",
        "if self._flying or self._deleting is not None:",
        "if self._deleting is not None:",
    ),
)
bug(
    "ids believed for ever",
    "a chunk is sent again when the stream has forgotten its id: after a laptop has slept it is stored twice",
    ("_objectstore.writer:ObjectWriter._mend", "elif self._is_forgotten(chunk, now):", "elif False:"),
)
bug(
    "waits with its eyes open",
    "while the removal of a chunk is asked for, what was due before is due again and again",
    ("_objectstore.writer:ObjectWriter.next_timeout", "and self._deleting is None", ""),
)
bug(
    "left at once",
    "an interrupted put does not wait for what is in flight: chunks come after the purge, and stay for ever",
    ("_objectstore.writer:ObjectWriter.done", "return not self._flying", "return True"),
)
bug(
    "nothing cleared away",
    "the chunks of a put that has failed stay",
    ("_objectstore.store:Store.undo", "if put.writer.some_stored or put.writer.unsettled:", "if False:"),
)
bug(
    "silence called failure",
    "the answer to the info was lost, and the chunks of an object that is there are removed",
    ("_objectstore.store:Store.undo", "if not certain:", "if False:"),
)
bug(
    "old version first",
    "the chunks of the version before are removed before the new one is there",
    (
        "_objectstore.store:Store.commit",
        "    last, written, _ = yield",
        "    before = yield from self._last(put.name, 5.0)\n"
        "    yield from self._clear(before.info)\n"
        "    last, written, _ = yield",
    ),
)
bug(
    "old version stays",
    "the chunks of each version that was replaced stay in the bucket",
    ("_objectstore.store:Store.commit", "left = yield from self._clear(last.info, but=put.nuid)", "left = None"),
)
bug(
    "two puts at once",
    "of two who replace the same version one is not cleared away: its chunks belong to nobody",
    ("_objectstore.store:Store._write", '"expected_last_subject_sequence": last.sequence,', ""),
)

bug(
    "objects are garbage",
    "what an object has is cleared away as if it belonged to nobody",
    ("_objectstore.garbage:Garbage.keep", "if info.chunks:", "if False:"),
)

# --- readers ---------------------------------------------------------------------------------------------------------

bug(
    "replaced is damaged",
    "an object that was replaced while it was read is said to be damaged",
    ("_objectstore.reader:ObjectReader._told_info", "elif answer.nuid != self._info.nuid:", "elif False:"),
)
bug(
    "nobody asks why",
    "the object was replaced while it was read, and its reader waits for chunks that do not come any more",
    ("_objectstore.reader:ObjectReader._ask", "self.wants.append(Ask(self._ask_count, QUIET))", "pass"),
)
bug(
    "end without a look",
    "a reader is told that all is well before the last chunk has come",
    (
        "_objectstore.reader:ObjectReader._chunk",
        "last = self._next == info.chunks",
        "last = self._next >= info.chunks - 1",
    ),
)
