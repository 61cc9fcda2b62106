"""Checks of the functions that a client is given to call, made when they are given.

Later nobody would be told: to call a generator function or an ``async def`` raises nothing, and runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Final, TypeVar

__all__ = ["check_callback", "check_function", "check_hook", "explained", "unusable_callback", "unusable_hook"]

GENERATOR: Final = 0x20
COROUTINE: Final = 0x80
ASYNC_GENERATOR: Final = 0x200
"""The flags of a function's code (``co_flags``). `inspect` has them, too, but its import takes longer than all else
that is imported here."""

MethodT = TypeVar("MethodT", bound=Callable[..., object])


def check_callback(callback: object, *, awaits: bool) -> None:
    """For a client's ``subscribe``: raises `TypeError` for what `unusable_callback` has something to say about."""
    check_function("subscribe: the callback", callback, awaits=awaits)


def check_function(what: str, function: object, *, awaits: bool) -> None:
    """Raises `TypeError` for what `unusable_callback` has something to say about. ``what`` names it in the text."""
    wrong = unusable_callback(function, awaits=awaits)
    if wrong is not None:
        raise TypeError(f"{what} cannot be used, {wrong}")


def check_hook(what: str, function: object) -> None:
    """The same for what may be None, and what no client awaits."""
    wrong = None if function is None else unusable_hook(function)
    if wrong is not None:
        raise TypeError(f"{what} cannot be used, {wrong}")


def unusable_callback(function: object, *, awaits: bool) -> str | None:
    """Why a call of ``function`` would do nothing, and what to give instead; None when it can be called.

    ``awaits``: the client awaits what the function returns.
    """
    if not callable(function):
        return f"it must be callable, not {type(function).__name__}"
    flags = _flags(function)
    if flags & (GENERATOR | ASYNC_GENERATOR):
        return "it is a generator function, and calling one runs nothing of it: give a function without yield"
    if flags & COROUTINE and not awaits:
        return "it is an async function, and threads await nothing: give a plain function, or use nats_anyio"
    return None


def unusable_hook(function: object) -> str | None:
    """The same for what no client awaits."""
    wrong = unusable_callback(function, awaits=True)
    if wrong is None and _flags(function) & COROUTINE:
        return "it is an async function, and nothing awaits it: give a plain function"
    return wrong


def _flags(function: object) -> int:
    """The flags of the code that a call runs, as far as that can be found; 0 when it cannot."""
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(_call_of(type(function)), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    return flags if isinstance(flags, int) else 0


def _call_of(kind: type) -> object:
    """The function that runs when an object of this class is called."""
    return next((vars(each)["__call__"] for each in kind.__mro__ if "__call__" in vars(each)), None)


def explained(method: MethodT) -> MethodT:
    """A decorator for ``subscribe``: a wrong argument raises a `TypeError` that says what to write instead.

    For type checkers and `inspect` the method looks as without it. It costs a call more, so it is not for methods that
    are called for each message.
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
