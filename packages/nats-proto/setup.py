"""The optional compiled module; everything else is in pyproject.toml.

It is built where a C compiler is there, and Cython or, in a source distribution, what Cython made. It is left out
without a word elsewhere, and when ``NATS_PROTO_PURE=1`` says so: then the wheel is one for every platform.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from setuptools import Extension, setup

PURE = os.environ.get("NATS_PROTO_PURE", "") not in ("", "0")
IN_SDIST = Path("PKG-INFO").exists()

module = Extension("nats_proto._wire._speedups", ["src/nats_proto/_wire/_speedups.pyx"], optional=True)
# A C file in a checkout may be of another day: without Cython it is not trusted.
buildable = IN_SDIST or importlib.util.find_spec("Cython") is not None
setup(ext_modules=[module] if buildable and not PURE else [])
