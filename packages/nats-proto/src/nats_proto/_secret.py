"""A value that no log, ``repr``, traceback or pickle may show."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, final

__all__ = ["Secret"]

_MASK: Final = "***"


@final
class Secret:
    """A password, token, seed or the like. `reveal` is the only way to its text.

    Everything that prints (``str``, ``repr``, ``format``) gives ``***``. It is compared in constant time, and only with
    another secret. It cannot be pickled (`TypeError`).
    """

    __slots__ = ("__text",)

    def __init__(self, text: str | bytes) -> None:
        self.__text = text if isinstance(text, bytes) else text.encode()

    def reveal(self) -> str:
        """The text."""
        return self.__text.decode()

    def reveal_bytes(self) -> bytes:
        """The text in UTF-8."""
        return self.__text

    def __repr__(self) -> str:
        return f"Secret({_MASK!r})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, format_spec: str) -> str:
        return _MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.__text, other.__text)

    def __hash__(self) -> int:
        return hash((Secret, self.__text))

    def __bool__(self) -> bool:
        return bool(self.__text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self
