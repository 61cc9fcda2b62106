"""The build backend: setuptools, and Cython only where it is needed.

A source distribution has the C file that Cython made, so building from it takes a C compiler alone. In a checkout there
is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

CYTHON = "Cython>=3.1"
SOURCE = "src/nats_proto/_wire/_speedups.pyx"

Settings = Mapping[str, str | list[str] | None] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_cython()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_editable(config_settings), *_cython()]


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_sdist(config_settings), CYTHON]


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    subprocess.run([sys.executable, "-m", "cython", SOURCE], check=True)  # noqa: S603  # our own file
    return build_meta.build_sdist(sdist_directory, config_settings)


def _cython() -> list[str]:
    pure = os.environ.get("NATS_PROTO_PURE", "") not in ("", "0")
    return [] if pure or Path("PKG-INFO").exists() else [CYTHON]
