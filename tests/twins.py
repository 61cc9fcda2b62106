"""Both twins of the parser's and the encoder's fast way, side by side in one process.

The fixture `twin` (in ``tests/conftest.py``) runs a test once with each. Where the compiled module was not built its
turn is skipped.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

from nats_proto import Encoder, Parser, Role, testing
from nats_proto._wire import encoder as _encoder
from nats_proto._wire import fast_path as _fast_path
from nats_proto._wire import parser as _parser
from nats_proto._wire import tail as _fast_publish
from nats_proto._wire import twin as _twin

try:
    from nats_proto._wire import _speedups as compiled_module
except ImportError:
    compiled_module = None  # type: ignore[assignment]

__all__ = ["COMPILED", "PURE", "TWINS", "Twin", "compiled_module"]


@dataclass(frozen=True, eq=False)
class Twin:
    """One of the two."""

    name: str
    fast_path: type[_fast_path.FastPath]
    encoder: type[Encoder]
    tail: type[_fast_publish.Tail]

    def parser(self, role: Role = Role.CLIENT, **limits: Any) -> Parser:
        """A parser that has this twin's fast path."""
        with mock.patch.object(_parser, "FastPath", self.fast_path):
            return Parser(role, **limits)

    @contextlib.contextmanager
    def at_work(self, module: ModuleType) -> Iterator[None]:
        """Parsers made meanwhile are this twin's; encoders too, if ``module`` makes them by the name `Encoder`."""
        with contextlib.ExitStack() as patches:
            patches.enter_context(mock.patch.object(_parser, "FastPath", self.fast_path))
            patches.enter_context(mock.patch.object(testing, "_ENCODER", self.encoder(max_control_line=32 * 1024)))
            if hasattr(module, "Encoder"):
                patches.enter_context(mock.patch.object(module, "Encoder", self.encoder))
            yield


def _encoder_over(base: type[_fast_publish.FastPublish]) -> type[Encoder]:
    """The encoder, but made over this twin: a base class cannot be replaced, so its module is read once more."""
    spec = importlib.util.find_spec(_encoder.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(_twin, "FastPublish", base):
        spec.loader.exec_module(module)
    encoder: type[Encoder] = module.Encoder
    assert encoder.__base__ is base
    return encoder


PURE = Twin("pure", _fast_path.FastPath, _encoder_over(_fast_publish.FastPublish), _fast_publish.Tail)
COMPILED = compiled_module and Twin(
    "compiled", compiled_module.FastPath, _encoder_over(compiled_module.FastPublish), compiled_module.Tail
)  # None when it was not built
TWINS = {"pure": PURE, "compiled": COMPILED}
