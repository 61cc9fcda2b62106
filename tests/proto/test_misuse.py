"""What is said to who writes a name wrong, or as another client has it, or gives a function that cannot be called."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from nats_proto import ConnectOptions, explained, read_options, unusable_callback
from nats_proto._misuse import _OPTIONS, _SUBSCRIBE
from nats_proto.errors import ConfigurationError

# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nmae", "name"), ("pasword", "password"), ("reconnect_wiat", "reconnect_wait"), ("tls_frist", "tls_first"),
        ("max_pending_size", "pending_size"), ("credential", "credentials"),
    ],
)  # fmt: skip
def test_a_misspelt_option_names_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"^connect has no option '{name}': did you mean {meant}\?$"):
        read_options(None, {name: 1})  # type: ignore[misc]


def test_an_option_like_none_names_all() -> None:
    with pytest.raises(TypeError, match=r"^connect has no option 'xyzzy': there are allow_reconnect, auth, .* verbose"):
        read_options(None, {"xyzzy": 1})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize("name", _OPTIONS)
def test_an_option_of_nats_py_names_what_stands_for_it(name: str) -> None:
    assert name not in ConnectOptions.__struct_fields__
    with pytest.raises(TypeError, match=rf"^connect has no option '{name}': ") as raised:
        read_options(None, {name: "s3cret"})  # type: ignore[misc]
    text = str(raised.value)
    assert "s3cret" not in text
    assert "did you mean" not in text
    assert raised.value.__cause__ is None


def test_several_are_told_together() -> None:
    with pytest.raises(TypeError) as raised:
        read_options(None, {"cb": 1, "no_echo": 2, "name": "x"})  # type: ignore[typeddict-unknown-key]
    assert str(raised.value).count("connect has no option") == 2


def test_options_as_they_should_be() -> None:
    ready = ConnectOptions(name="x")
    assert read_options(ready, {}) is ready
    assert read_options(ready, {}, awaits=False) is ready
    assert read_options(None, {"name": "x"}) == ready
    with pytest.raises(ConfigurationError, match="not both: name"):
        read_options(ready, {"name": "x"})
    with pytest.raises(ConfigurationError, match="must be ConnectOptions, not dict"):
        read_options({"name": "x"}, {})


# --- subscribe -------------------------------------------------------------------------------------------------------


class Client:
    @explained
    def subscribe(
        self, subject: str, *, queue: str | None = None, callback: object = None, max_pending_msgs: int | None = None
    ) -> tuple[object, ...]:
        """The text."""
        return subject, queue, callback, max_pending_msgs


SUBSCRIBE: list[tuple[tuple[object, ...], dict[str, object], str]] = [
    (("a", "workers"), {}, "subscribe takes the subject alone without a name: write queue='workers' for a queue group"),
    (("a", print), {}, "subscribe takes the subject alone without a name: write callback=... for a function"),
    (("a", 5), {}, "subscribe takes the subject alone without a name: write the others with their names"),
    (
        ("a", "q", print),
        {},
        "queue='q' for a queue group; subscribe takes the subject alone without a name: write callb",
    ),
    (("a",), {"cb": print}, "subscribe has no argument 'cb': it is callback"),
    (("a",), {"pending_msgs_limit": 1}, "subscribe has no argument 'pending_msgs_limit': it is max_pending_msgs"),
    (("a",), {"quue": "q"}, "subscribe has no argument 'quue': did you mean queue?"),
    (("a",), {"xyzzy": 1}, "there are callback, max_pending_msgs, queue, subject"),
]


@pytest.mark.parametrize(("args", "options", "text"), SUBSCRIBE)
def test_subscribe_says_what_to_write(args: tuple[object, ...], options: dict[str, object], text: str) -> None:
    call: Callable[..., object] = Client().subscribe
    with pytest.raises(TypeError) as raised:
        call(*args, **options)
    assert text in str(raised.value)


def test_what_is_right_passes() -> None:
    assert Client().subscribe("a", queue="q") == ("a", "q", None, None)
    assert Client().subscribe(subject="a", callback=print) == ("a", None, print, None)
    assert Client.subscribe.__doc__ == "The text."
    call: Callable[..., object] = Client().subscribe
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'subject'"):
        call()


@pytest.mark.parametrize("name", _SUBSCRIBE)
def test_every_advice_names_something_else(name: str) -> None:
    assert name not in {"subject", "queue", "callback", "max_msgs", "concurrency"}
    assert _SUBSCRIBE[name].split()[-1] != name


def test_nothing_is_loaded_for_those_who_write_it_right() -> None:
    code = """
import sys
from nats_proto import read_options
read_options(None, {"name": "x"})
assert "difflib" not in sys.modules and "nats_proto._misuse" not in sys.modules
try:
    read_options(None, {"nmae": "x"})
except TypeError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "connect has no option 'nmae': did you mean name?\n"


# --- functions -------------------------------------------------------------------------------------------------------


def plain(message: object) -> None: ...


async def awaited(message: object) -> None: ...


def generator(message: object) -> Any:
    yield


async def async_generator(message: object) -> Any:
    yield


class Methods:
    def plain(self, message: object) -> None: ...

    async def awaited(self, message: object) -> None: ...

    @classmethod
    async def of_class(cls, message: object) -> None: ...

    @staticmethod
    async def static(message: object) -> None: ...


class Called:
    def __call__(self, message: object) -> None: ...


class Awaited:
    async def __call__(self, message: object) -> None: ...


class AwaitedToo(Awaited): ...


USABLE = [
    plain,
    Methods().plain,
    Called(),
    print,
    [].append,
    functools.partial(plain, 1),
    MagicMock(),
    Called,
    lambda m: m,
]
AWAITED = [
    awaited, Methods().awaited, Methods.of_class, Methods.static, Awaited(), AwaitedToo(), AsyncMock(),
    functools.partial(awaited), functools.partial(functools.partial(Methods().awaited, 1)), Awaited().__call__,
]  # fmt: skip


@pytest.mark.parametrize("function", USABLE)
def test_functions_that_can_be_called(function: object) -> None:
    assert unusable_callback(function, awaits=False) is None
    assert unusable_callback(function, awaits=True) is None


@pytest.mark.parametrize("function", AWAITED)
def test_functions_that_have_to_be_awaited(function: object) -> None:
    wrong = unusable_callback(function, awaits=False)
    assert wrong is not None
    assert "nats_anyio" in wrong
    assert unusable_callback(function, awaits=True) is None


@pytest.mark.parametrize("function", [generator, async_generator, functools.partial(generator)])
@pytest.mark.parametrize("awaits", [False, True])
def test_functions_that_run_nothing(function: object, awaits: bool) -> None:
    assert "generator function" in str(unusable_callback(function, awaits=awaits))


@pytest.mark.parametrize("wrong", [5, "print", None, b""])
def test_what_is_no_function(wrong: object) -> None:
    assert unusable_callback(wrong, awaits=True) == f"it must be callable, not {type(wrong).__name__}"


async def _async(_: object) -> float:
    return 1.0


@pytest.mark.parametrize("name", ["on_event", "reconnect_delay"])
def test_an_async_function_is_for_clients_that_await(name: str) -> None:
    assert getattr(read_options(None, {name: _async}), name) is _async  # type: ignore[misc]
    with pytest.raises(ConfigurationError, match=f"^{name}: it is an async function"):
        read_options(None, {name: _async}, awaits=False)  # type: ignore[misc]
