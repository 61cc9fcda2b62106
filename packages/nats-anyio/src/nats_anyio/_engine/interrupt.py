"""What user code raises to end the program, on its way through the client's tasks."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import anyio

__all__ = ["Interrupt", "interruptible", "the_one"]

T = TypeVar("T")


class Interrupt(Exception):  # not an error: a carrier
    """Carries a `SystemExit`, `KeyboardInterrupt` or the like out of a task.

    asyncio raises those out of the running loop at once, past all tasks. The tasks would not end in order, and nobody
    would know which client had raised it. So they travel as this, and are themselves again where the client's tasks
    end.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


async def interruptible(work: Awaitable[T]) -> T:
    """Await it; what is neither an `Exception` nor a cancellation comes out as an `Interrupt`."""
    try:
        return await work
    except (Exception, GeneratorExit, anyio.get_cancelled_exc_class()):
        raise
    except BaseException as error:
        raise Interrupt(error) from None


def the_one(error: BaseException) -> BaseException:
    """What groups of tasks have failed of: an `Interrupt` if there is one, else the only one, else the whole group."""
    leaves = _leaves(error)
    for leaf in leaves:
        if isinstance(leaf, Interrupt):
            return leaf
    return leaves[0] if len(leaves) == 1 else error


def _leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, in groups in it, and so on; an exception that is no group is its only leaf."""
    members: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for member in members for leaf in _leaves(member)]
