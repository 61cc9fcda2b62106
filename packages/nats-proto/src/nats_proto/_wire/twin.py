"""Which of the twins is at work: the compiled module where it was built, the Python one elsewhere.

The environment variable ``NATS_PROTO_PURE=1`` turns the compiled one off. It is read once, at the first import.
"""

from __future__ import annotations

import os

__all__ = ["Assembly", "FastPath", "Tail", "accelerated"]

accelerated: bool
"""Whether the compiled module is at work."""

try:
    if os.environ.get("NATS_PROTO_PURE", "") not in ("", "0"):
        raise ImportError
    # All come from one module or from none, so a compiled twin never works beside a Python one.
    from ._speedups import Assembly, FastPath, Tail  # pyright: ignore[reportMissingModuleSource]  # not built everywhere

    accelerated = True
except ImportError:
    from .assembly import Assembly
    from .fast_path import FastPath
    from .tail import Tail

    accelerated = False
