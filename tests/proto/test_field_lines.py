"""Every option, and every field of INFO, has its line: what it means, in which unit, and what is refused.

A field's line is the string below it. Python drops those strings, so they are looked for in the source.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise

import pytest

from nats_proto import ConnectOptions, ServerInfo

CLASSES = (ConnectOptions, ServerInfo)


def fields_and_lines(class_source: str) -> Iterator[tuple[str, str]]:
    """Each field of the class, and its line; empty when it has none."""
    body = ast.parse(class_source).body[0]
    assert isinstance(body, ast.ClassDef)
    for statement, below in pairwise([*body.body, ast.Pass()]):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(line))):
                    yield statement.target.id, line
                case _:
                    yield statement.target.id, ""


@pytest.mark.parametrize("described", CLASSES, ids=lambda each: each.__name__)
def test_every_field_has_its_line(described: type[ConnectOptions] | type[ServerInfo]) -> None:
    lines = dict(fields_and_lines(inspect.getsource(described)))
    assert tuple(lines) == described.__struct_fields__
    for name, line in lines.items():
        assert line.strip().endswith((".", ")")), f"{described.__name__}.{name} has no line, or none that is a sentence"


def test_a_field_without_a_line_is_found() -> None:
    source = 'class C:\n    """Of C."""\n    a: int = 0\n    """Of a."""\n    b: int = 0\n    c: int\n    """Of c."""'
    assert dict(fields_and_lines(source)) == {"a": "Of a.", "b": "", "c": "Of c."}
    assert dict(fields_and_lines(f"{source}\n    d: int"))["d"] == ""
