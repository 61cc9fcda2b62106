"""A value that no log, ``repr``, traceback or pickle may show."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Final, NoReturn, TypeVar, final

__all__ = ["MASK", "Secret", "discreet"]

MASK: Final = "***"

T = TypeVar("T")


@final
class Secret:
    """A password, token, seed or the like. `reveal` is the only way to its text.

    Everything that prints (``str``, ``repr``, ``format``) gives ``***``. It is compared in constant time, and only with
    another secret. It cannot be pickled (`TypeError`).
    """

    __slots__ = ("__text",)

    def __init__(self, text: str | bytes) -> None:
        """Raises `ValueError`, which quotes nothing, for text that UTF-8 cannot express and bytes that are no UTF-8."""
        encoded = _utf8(text)
        if not isinstance(encoded, bytes):
            del text
            raise encoded
        self.__text = encoded

    def reveal(self) -> str:
        """The text."""
        return self.__text.decode()

    def reveal_bytes(self) -> bytes:
        """The text in UTF-8."""
        return self.__text

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        from hmac import compare_digest  # brings OpenSSL, and secrets are seldom compared

        return isinstance(other, Secret) and compare_digest(self.__text, other.__text)

    def __hash__(self) -> int:
        return hash((Secret, self.__text))

    def __bool__(self) -> bool:
        return bool(self.__text)

    def __dir__(self) -> list[str]:  # for what shows an object by the names it has
        return [name for name in object.__dir__(self) if not name.startswith("_Secret__")]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")

    # Every object has this method since Python 3.11, and the inherited one would return the values of all slots.
    def __getstate__(self) -> NoReturn:
        self.__reduce__()

    # The text cannot change, so the same object does as well as a copy. Without these two methods `copy` would call
    # `__reduce__`, which refuses, and nothing that has a secret in it could be deep-copied.
    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self


def _utf8(text: object) -> bytes | ValueError | TypeError:
    """The text in UTF-8; or what is wrong, which the caller raises when no local variable holds the text any more.

    A `UnicodeError` holds the text. So it must not leave this function, neither as the error nor as an error's context.
    """
    if not isinstance(text, (str, bytes)):
        return TypeError(f"a secret must be str or bytes, not {type(text).__name__}")
    try:
        if isinstance(text, str):
            return str.encode(text)
        bytes.decode(text)
    except UnicodeError:
        return ValueError("a secret must be text that UTF-8 can express, or bytes that are UTF-8")
    return bytes(text)


def discreet(check: Callable[[T], None]) -> Callable[[T], None]:
    """A decorator for ``__post_init__``: what that raises loses its traceback, whose frames hold secrets in clear."""

    @wraps(check)
    def __post_init__(self: T) -> None:
        failure = _failure(check, self)
        if failure is not None:
            del self  # an object that is half made holds secrets in clear, and may not even have a repr
            raise failure

    return __post_init__


def _failure(check: Callable[[T], None], made: T) -> Exception | None:
    try:
        check(made)
    except Exception as error:
        return error.with_traceback(None)
    return None
