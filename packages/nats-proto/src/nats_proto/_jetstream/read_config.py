"""A configuration, from keywords or from a ready value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from .._json.wire_value import WireValue
from .consumer_config import ConsumerConfig
from .stream_config import StreamConfig

__all__ = ["read_config", "refuse_config"]

C = TypeVar("C", StreamConfig, ConsumerConfig)


def read_config(kind: type[C], config: object, name: str | None, fields: Mapping[str, object]) -> C:
    """The configuration that a user gave: ``config``, a ready one, or else its ``fields`` by name; and its ``name``,
    which a ready one may have as well. It is checked, see `WireValue.check`.

    Raises `TypeError` when both were given, for another type, and for a name that is no field, with the one that was
    probably meant; `ValueError` for a value that cannot be used, and for two names.
    """
    refuse_config(name)
    if config is None:
        made = _of_fields(kind, name, fields)
    elif fields:
        raise TypeError(f"give either config or its fields by name, not both: {', '.join(fields)}")
    elif not isinstance(config, kind):
        raise TypeError(f"config must be {kind.__name__}, not {type(config).__name__}")
    elif name is None or config.name == name:
        made = config
    elif config.name is None:
        made = msgspec.structs.replace(config, name=name)
    else:
        raise ValueError(f"the name is given twice, as {name!r} and as {config.name!r} in config")
    made.check()
    return made


def refuse_config(name: object) -> None:
    """Raises `TypeError` for a ready configuration that stands in the place of the name."""
    if isinstance(name, WireValue):
        raise TypeError(f"{type(name).__name__} is given by its keyword: config=")


def _of_fields(kind: type[C], name: str | None, fields: Mapping[str, object]) -> C:
    known = kind.__struct_fields__
    unknown = [field for field in fields if field not in known]
    if unknown:
        raise TypeError("; ".join(_no_field(kind, field) for field in unknown))
    other = fields.get("name")
    if name is None:
        name = other  # type: ignore[assignment]  # the constructor checks the type
    elif other not in (None, name):
        raise ValueError(f"the name is given twice, as {name!r} and as {other!r} among the fields")
    if name is None and issubclass(kind, StreamConfig):
        raise TypeError("a stream needs a name, or config")
    return kind(**{**fields, "name": name})  # type: ignore[arg-type]  # the constructor checks the types


def _no_field(kind: type[StreamConfig | ConsumerConfig], field: str) -> str:
    from difflib import get_close_matches  # only who needs to be told pays for loading it

    known = [name for name in kind.__struct_fields__ if name != "unknown"]
    near = get_close_matches(field, known, n=1)
    advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    return f"{kind.__name__} has no field {field[:64]!r}: {advice}"
