"""Whether a secret is anywhere to be seen: everything a program, its logs or its crash reports may show is collected,
and searched for every piece of eight characters of every secret, in each form it may have taken.

    look = Look()
    with look.listening():          # logs, warnings, what hooks are told
        look(client, "the client")  # its texts, its public attributes and theirs, what a pickle of it has
        look(error, "the error")    # the errors it came from as well, tracebacks with all local variables
    found = hits(look, index)

Left out are the frames of tests, since a test holds the secrets, and whatever they called that is not ours; and what a
`Secret` or a `KeyPair` has inside, since nothing in Python can be hidden from one who reaches for it.
"""

from __future__ import annotations

import logging
import pickle
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import pytest

from nats_proto import Secret
from nats_proto.nkeys import KeyPair
from tests.proto.secrecy import PIECE, forms, pieces, without_addresses

__all__ = ["Index", "Look", "hits"]

OURS = ("nats_proto", "nats_sync", "nats_anyio")
Index = Mapping[str, str]
"""Each piece of each secret, and whose it is."""


def index(kinds: Mapping[str, Sequence[bytes]]) -> Index:
    """Of secrets by their kind. One shorter than a piece cannot be looked for, and is refused."""
    found: dict[str, str] = {}
    for kind, secrets in kinds.items():
        for secret in secrets:
            assert len(secret) >= PIECE, f"{kind} is too short to be found"
            # What is digits alone, as a piece of hex may be, is found in any time.
            found.update((piece, kind) for form in forms(secret) for piece in pieces(form) if not piece.isdigit())
    return found


def hits(look: Look, secrets: Index) -> list[str]:
    """One line for each text that has pieces of a secret: whose, how many, where, and the text around the first."""
    found: list[str] = []
    for text, where in look.texts.items():
        windows = {text[at : at + PIECE] for at in range(len(text) - PIECE + 1)}
        seen = sorted(windows & secrets.keys(), key=text.index)
        for kind in sorted({secrets[piece] for piece in seen}):
            of_kind = [piece for piece in seen if secrets[piece] == kind]
            begin = max(0, text.index(of_kind[0]) - 60)
            found.append(f"{kind}: {len(of_kind)} pieces in {where}: …{text[begin : begin + 160]!r}…")
    return found


class Look:
    """Collects. ``texts`` has each text once, with where it was seen first."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.errors: list[BaseException] = []
        """All that were looked at, in order, with those they came from."""
        self._seen: dict[int, object] = {}

    def text(self, text: str, where: str) -> None:
        self.texts.setdefault(without_addresses(text), where)

    def __call__(self, thing: object, where: str) -> None:
        """Look at a thing, and at what its public attributes lead to."""
        if isinstance(thing, (str, bytes)):
            self.text(thing if isinstance(thing, str) else thing.decode("latin-1"), where)
        elif id(thing) not in self._seen:
            self._seen[id(thing)] = thing
            self._look_at(thing, where)

    def _look_at(self, thing: object, where: str) -> None:
        self.text(_try(repr, thing), f"repr of {where}")
        self.text(_try(str, thing), f"str of {where}")
        self.text(_try(format, thing), f"format of {where}")
        if isinstance(thing, BaseException):
            self._error(thing, where)
        if isinstance(thing, Mapping):
            thing = [*thing.keys(), *thing.values()]
        if isinstance(thing, (list, tuple, set, frozenset)):
            for number, each in enumerate(thing):
                self(each, f"{where}[{number}]")
        elif type(thing).__module__.partition(".")[0] in OURS:
            self._one_of_ours(thing, where)

    def _one_of_ours(self, thing: object, where: str) -> None:
        for name in dir(thing):
            if not name.startswith("_"):
                value = _value(thing, name)
                if not callable(value):
                    self(value, f"{where}.{name}")
        if not isinstance(thing, (Secret, KeyPair)):
            for name, value in _stored(thing):
                self.text(_try(repr, value), f"what {where} stores as {name}")
        self.text(_pickled(thing), f"pickle of {where}")

    # --- errors ------------------------------------------------------------------------------------------------------

    def _error(self, error: BaseException, where: str) -> None:
        self.errors.append(error)
        self.text(repr(error.args), f"args of {where}")
        self.text(repr(vars(error)), f"attributes of {where}")
        self.text("".join(traceback.format_exception(error)), f"traceback of {where}")
        for frame, line in _frames(error.__traceback__):
            place = f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}, of {where}"
            for name, value in frame.f_locals.items():
                self.text(_try(repr, value), f"local variable {name} in {place}")
        for inner in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
            if inner is not None:
                self(inner, f"{type(inner).__name__} behind {where}")

    def error(self, kind: type[BaseException]) -> BaseException:
        """The first error of that class. ``AssertionError`` when none was seen."""
        for error in self.errors:
            if isinstance(error, kind):
                return error
        raise AssertionError(f"no {kind.__name__} among {self.errors}")

    # --- what comes by itself ----------------------------------------------------------------------------------------

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear all loggers at DEBUG, warnings, and the hooks for what nobody catches."""
        listener = _Listener()
        loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
        patch = pytest.MonkeyPatch()
        for hook, module in (("unraisablehook", sys), ("excepthook", sys), ("excepthook", threading)):
            patch.setattr(module, hook, lambda args, *more, hook=hook: self._uncaught(hook, args, *more))
        for logger in loggers:
            patch.setattr(logger, "level", logging.DEBUG)
            patch.setattr(logger, "disabled", False)
            logger.manager._clear_cache()  # type: ignore[attr-defined]  # levels are cached
        logging.root.addHandler(listener)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield
        finally:
            logging.root.removeHandler(listener)
            patch.undo()
            logging.root.manager._clear_cache()  # type: ignore[attr-defined]
        for warning in caught:
            self(warning.message, "a warning")
            self.text(warnings.formatwarning(warning.message, warning.category, "", 0), "a warning's line")
        for record in listener.records:
            self._record(record)

    def _uncaught(self, hook: str, args: Any, *more: Any) -> None:
        for each in (args, *more):
            self(getattr(each, "exc_value", each), hook)

    def _record(self, record: logging.LogRecord) -> None:
        where = f"a record of {record.name} ({record.levelname}, {record.getMessage()[:60]!r})"
        self.text(logging.Formatter().format(record), where)
        for name, value in vars(record).items():
            self.text(_try(repr, value), f"{name} of {where}")
        if record.exc_info is not None:
            self(record.exc_info[1], f"the error in {where}")

    def names(self, tasks: Iterable[object]) -> None:
        """Names of threads and tasks, and the title of the process, as they are now."""
        for thread in threading.enumerate():
            self.text(repr(thread), "a thread")
        for task in tasks:
            self.text(str(task), "a task")
        for path in (*Path("/proc/self/task").glob("*/comm"), Path("/proc/self/cmdline")):
            with suppress(OSError):  # a thread that has just ended
                self.text(path.read_bytes().decode("latin-1"), str(path))


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def _frames(traceback: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    """Those of our packages and of what they call, but for tests and what those call.

    A module's name tells, since generated code (the ``__init__`` of a dataclass) has no file.
    """
    frames = list(_all_frames(traceback))
    names = [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]
    inside = True  # a traceback begins where the error was caught, which may be in a library
    for (frame, line), name in zip(frames, names, strict=True):
        if name.startswith((*OURS, "tests.")):
            inside = not name.startswith("tests.")
        if inside:
            yield frame, line


def _all_frames(traceback: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def _stored(thing: object) -> Iterator[tuple[str, object]]:
    names = {name for kind in type(thing).__mro__ for name in _slots(kind)} | set(getattr(thing, "__dict__", ()))
    for name in names:
        with suppress(AttributeError):
            yield name, getattr(thing, name)


def _slots(kind: type) -> Iterator[str]:
    slots: str | Iterable[str] = kind.__dict__.get("__slots__", ())
    for name in (slots,) if isinstance(slots, str) else slots:
        private = name.startswith("__") and not name.endswith("__")
        yield f"_{kind.__name__.lstrip('_')}{name}" if private else name


def _value(thing: object, name: str) -> object:
    try:
        return getattr(thing, name)
    except Exception as error:
        return error


def _try(function: Any, thing: object) -> str:
    try:
        return str(function(thing))
    except Exception as error:
        return f"{error!r}"


def _pickled(thing: object) -> str:
    try:
        return pickle.dumps(thing).decode("latin-1")
    except Exception as error:
        return f"{error!r}"
