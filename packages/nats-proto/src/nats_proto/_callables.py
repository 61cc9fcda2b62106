"""What is wrong with a function that a client is given to call, said when it is given: later nothing would."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Final, TypeVar

__all__ = ["check_callback", "explained", "unusable_callback"]

GENERATOR: Final = 0x20
COROUTINE: Final = 0x80
ASYNC_GENERATOR: Final = 0x200
"""Flags of code, as `inspect` has them, which takes longer to load than all the rest."""

MethodT = TypeVar("MethodT", bound=Callable[..., object])


def check_callback(callback: object, *, awaits: bool) -> None:
    """For a client's ``subscribe``: raises `TypeError` for what `unusable_callback` has something to say about."""
    wrong = unusable_callback(callback, awaits=awaits)
    if wrong is not None:
        raise TypeError(f"subscribe: the callback cannot be used, {wrong}")


def unusable_callback(function: object, *, awaits: bool) -> str | None:
    """Why calling it would do nothing, and what to give instead; None: it can be called.

    ``awaits``: the client awaits what it returns.
    """
    if not callable(function):
        return f"it must be callable, not {type(function).__name__}"
    flags = _flags(function)
    if flags & (GENERATOR | ASYNC_GENERATOR):
        return "it is a generator function, and calling one runs nothing of it: give a function without yield"
    if flags & COROUTINE and not awaits:
        return "it is an async function, and threads await nothing: give a plain function, or use nats_anyio"
    return None


def _flags(function: object) -> int:
    """Of the code that a call runs, as far as it can be seen."""
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(_call_of(type(function)), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    return flags if isinstance(flags, int) else 0


def _call_of(kind: type) -> object:
    """What a call of an object of this class runs."""
    return next((vars(each)["__call__"] for each in kind.__mro__ if "__call__" in vars(each)), None)


def explained(method: MethodT) -> MethodT:
    """For a client's ``subscribe``: a wrong argument is answered by what to write instead.

    Nothing of it is seen by type checkers and `inspect`. It is not for methods that are called for each message.
    """
    code = method.__code__
    names = frozenset(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount])

    @wraps(method)
    def checked(self: object, *args: object, **options: object) -> object:
        if len(args) > 1 or not names.issuperset(options):
            from ._misuse import misused_subscribe  # only who needs to be told pays for loading it

            raise misused_subscribe(args, [name for name in options if name not in names], names)
        return method(self, *args, **options)

    return checked  # type: ignore[return-value]  # it takes what the method takes
