"""A `KeyboardInterrupt` at a moment that is chosen, and not met by chance."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType

__all__ = ["interrupted_at"]


@contextmanager
def interrupted_at(moment: int, package: str) -> Iterator[Callable[[], bool]]:
    """An interrupt comes at this moment of what the package does in this thread, and goes no further than this block.

    Moments are what Python looks for signals at: the beginning of each function, and the end of each call of C code.
    What it gives says afterwards whether there were so many.
    """
    moments = count()
    came = False

    def look(frame: FrameType, event: str, _: object) -> None:
        nonlocal came
        is_moment = event in ("call", "c_return") and frame.f_globals.get("__name__", "").startswith(package)
        if is_moment and not came and next(moments) == moment:
            came = True
            raise KeyboardInterrupt

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield lambda: came
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(before)
