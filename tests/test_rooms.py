"""The modules of each package lie in rooms, its folders; a room imports only rooms below it, so no circle comes about.

Imports inside functions and imports for types alone count like all others: they, too, tell what a module knows.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import nats_anyio
import nats_proto
import nats_sync

GROUND = {
    "errors",
    "_callables",
    "_effects",
    "_limits",
    "_misuse",
    "_permissions",
    "_secret",
    "_value",
    "_version",
    "_wording",
}
"""Modules of nats-proto that every room may import."""

ROOMS: dict[str, dict[str, set[str]]] = {
    "nats_proto": {
        "_callables": {"_misuse"},
        "_permissions": {"_value"},
        "_effects": {"_value"},
        "_wire": GROUND,
        "_servers": GROUND,
        "_auth": GROUND,
        "nkeys": {"_auth", *GROUND},
        "_layers": {"_servers", *GROUND},
        "_interface": {"_auth", "_layers", "_servers", "_wire", "nkeys", *GROUND},
        "_connection": {"_auth", "_interface", "_layers", "_servers", "_wire", "nkeys", *GROUND},
        "_session": {"_connection", "_interface", "_layers", "_servers", "_wire", *GROUND},
        "_calls": {"_interface", "_session", "_wire", *GROUND},
        "_json": GROUND,
        "_jetstream": {"_calls", "_interface", "_json", "_session", "_wire", *GROUND},
        "_consuming": {"_calls", "_interface", "_jetstream", "_json", "_session", "_wire", *GROUND},
        "_publishing": {"_calls", "_interface", "_jetstream", "_json", "_session", "_wire", *GROUND},
        "_keyvalue": {
            *("_calls", "_consuming", "_interface", "_jetstream", "_json", "_publishing", "_session", "_wire"),
            *GROUND,
        },
        "_objectstore": {
            *("_calls", "_consuming", "_interface", "_jetstream", "_json", "_keyvalue", "_publishing", "_session"),
            "_wire",
            *GROUND,
        },
        "_ensure": {"_calls", "_jetstream", "_json", "_keyvalue", "_objectstore", *GROUND},
        "_services": {"_json", "_wire", *GROUND},
        "jetstream": {
            "_consuming",
            "_ensure",
            "_jetstream",
            "_json",
            "_keyvalue",
            "_objectstore",
            "_permissions",
            "_publishing",
        },
        "services": {"_permissions", "_services"},
        "testing": {"_wire"},
        "__init__": {"_auth", "_calls", "_connection", "_interface", "_servers", "_session", "_wire", "nkeys", *GROUND},
    },
    "nats_sync": {
        "testing": set(),
        "_engine": set(),
        "_message": set(),
        "_client_state": {"_engine"},
        "_subscription": {"_engine", "_message"},
        "_host": {"_engine", "_message", "_subscription"},
        "_request_many": {"_engine", "_host", "_message"},
        "_jetstream": {"_engine", "_message"},
        "_services": {"_engine", "_message"},
        "jetstream": {"_jetstream"},
        "services": {"_services"},
        "_client": {
            *("_client_state", "_engine", "_host", "_jetstream", "_message", "_request_many", "_services"),
            "_subscription",
        },
        "_connect": {"_client", "_engine"},
        "__init__": {"_client", "_connect"},
    },
    "nats_anyio": {
        "_engine": set(),
        "_message": set(),
        "_client_state": {"_engine", "_message"},
        "_subscription": {"_engine", "_message"},
        "_host": {"_engine", "_message", "_subscription"},
        "_request_many": {"_engine", "_host", "_message"},
        "_jetstream": {"_engine", "_message"},
        "_services": {"_engine", "_message"},
        "jetstream": {"_jetstream"},
        "services": {"_services"},
        "_client": {
            *("_client_state", "_engine", "_host", "_jetstream", "_message", "_request_many", "_services"),
            "_subscription",
        },
        "_connect": {"_client", "_engine"},
        "_open": {"_client", "_connect", "_engine"},
        "__init__": {"_client", "_connect", "_open"},
    },
}
"""Each room, or module beside the rooms, and what it may import of its own package."""

ROOTS = {module.__name__: Path(module.__file__).parent for module in (nats_proto, nats_sync, nats_anyio)}
SOURCES = [(package, path) for package, root in ROOTS.items() for path in sorted(root.rglob("*.py"))]


def imported(source: str, package: str, place: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What the module at ``place`` below the package imports of its package: each as a place."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                absolute = [alias.name.split(".") for alias in names]
            case ast.ImportFrom(module=module, level=level, names=names):
                start = [package, *place][: level and -level]
                start += module.split(".") if module else []
                # What is imported from a folder may be one of its modules.
                absolute = [[*start, alias.name] for alias in names]
            case _:
                continue
        yield from (tuple(path[1:]) for path in absolute if path[0] == package and len(path) > 1)


@pytest.mark.parametrize(
    ("package", "path"),
    SOURCES,
    ids=lambda value: value if isinstance(value, str) else f"{value.parent.name}/{value.stem}",
)
def test_a_module_imports_only_what_lies_below_its_room(package: str, path: Path) -> None:
    place = path.relative_to(ROOTS[package]).with_suffix("").parts
    room = place[0]
    rooms = ROOMS[package]
    allowed = rooms.get(room, set())
    for other in imported(path.read_text(encoding="utf-8"), package, place):
        assert other[0] in {room, *allowed} or not (other[0] in rooms or other[0] in GROUND), other


@pytest.mark.parametrize("package", ROOMS)
def test_every_module_has_its_room(package: str) -> None:
    places = {path.relative_to(ROOTS[package]).with_suffix("").parts[0] for name, path in SOURCES if name == package}
    assert places - (GROUND if package == "nats_proto" else set()) <= set(ROOMS[package]) <= places


@pytest.mark.parametrize("package", ["nats_anyio", "nats_proto", "nats_sync"])
def test_the_rooms_are_above_one_another(package: str) -> None:
    order = list(TopologicalSorter(ROOMS[package]).static_order())  # raises when there is a circle
    assert order[-1] in ("__init__", "_consuming", "jetstream", "services", "testing")


@pytest.mark.parametrize("package", ROOMS)
def test_no_circle_of_modules(package: str) -> None:
    """Within a room as well, and with what is imported for types alone."""
    places = {path.relative_to(ROOTS[package]).with_suffix("").parts: path for name, path in SOURCES if name == package}
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for place, path in places.items():
        found = imported(path.read_text(encoding="utf-8"), package, place)
        graph[place] = {known for other in found for known in (other, other[:-1]) if known in places} - {place}
    list(TopologicalSorter(graph).static_order())  # raises when there is a circle


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ..errors import NATSError", ("errors", "NATSError")),
        ("from .. import errors", ("errors",)),
        ("def f():\n    from .._session.link import Link", ("_session", "link", "Link")),
        ("if TYPE_CHECKING:\n    from .link import Link", ("_wire", "link", "Link")),
        ("import nats_proto._session.link", ("_session", "link")),
        ("from nats_proto._session import link", ("_session", "link")),
    ],
)
def test_the_search_finds(source: str, found: tuple[str, ...]) -> None:
    assert list(imported(source, "nats_proto", ("_wire", "parser"))) == [found]
