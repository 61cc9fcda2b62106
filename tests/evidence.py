"""What a failed test should show beside its traceback: transcripts of peers, decisions of proxies."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["forget", "keep", "shown"]

_kept: list[tuple[str, Callable[[], str]]] = []


def keep(title: str, text: Callable[[], str]) -> None:
    """Print ``text()`` under ``title`` when the running test fails."""
    _kept.append((title, text))


def shown() -> list[tuple[str, str]]:
    """Title and text of all that was kept since `forget`."""
    return [(title, text()) for title, text in _kept]


def forget() -> None:
    """A new test begins."""
    _kept.clear()
