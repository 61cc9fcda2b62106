"""Options: checked once, complete in both forms, silent about secrets."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, get_type_hints

import pytest

from nats_proto import ConnectOptionFields, ConnectOptions, Secret
from nats_proto.errors import ConfigurationError

DEFAULTS = {
    "name": None,
    "user": None,
    "password": None,
    "token": None,
    "nkey_seed": None,
    "credentials": None,
    "auth": None,
    "tls": None,
    "tls_hostname": None,
    "tls_first": False,
    "websocket_headers": None,
    "websocket_compression": False,
    "proxy": None,
    "echo": True,
    "verbose": False,
    "pedantic": False,
    "inbox_prefix": "_INBOX",
    "connect_timeout": 2.0,
    "ping_interval": 120.0,
    "max_pings_out": 2,
    "allow_reconnect": True,
    "max_reconnect_attempts": -1,
    "reconnect_wait": 2.0,
    "reconnect_jitter": 0.1,
    "reconnect_jitter_tls": 1.0,
    "reconnect_delay": None,
    "randomize_servers": True,
    "ignore_discovered_servers": False,
    "retry_on_failed_connect": False,
    "pending_size": 8 * 1024 * 1024,
    "drain_timeout": 30.0,
    "max_pending_msgs": 65536,
    "max_pending_bytes": 64 * 1024 * 1024,
    "fail_requests_on_disconnect": False,
    "retry_auth_errors": False,
    "lame_duck_migration": True,
    "max_control_line": 4096,
    "max_message_size": 64 * 1024 * 1024,
    "on_event": None,
}


def in_clear(value: object) -> object:
    return value.reveal() if isinstance(value, Secret) else value


def test_the_defaults() -> None:
    options = ConnectOptions()
    assert {field.name: getattr(options, field.name) for field in dataclasses.fields(options)} == DEFAULTS


def test_both_forms_have_the_same_fields_and_types() -> None:
    assert get_type_hints(ConnectOptionFields) == get_type_hints(ConnectOptions)
    assert ConnectOptionFields.__total__ is False


def test_options_are_values() -> None:
    options = ConnectOptions(name="x")
    with pytest.raises(AttributeError):
        options.name = "y"  # type: ignore[misc]
    assert options == ConnectOptions(name="x")
    assert dataclasses.replace(options, echo=False).echo is False
    assert copy.deepcopy(options) == copy.copy(options) == options


SECONDS = [
    "connect_timeout",
    "ping_interval",
    "reconnect_wait",
    "reconnect_jitter",
    "reconnect_jitter_tls",
    "drain_timeout",
]
NUMBERS = {
    "max_pings_out": 1,
    "max_reconnect_attempts": -1,
    "pending_size": 0,
    "max_pending_msgs": 0,
    "max_pending_bytes": 0,
    "max_control_line": 512,
    "max_message_size": 1,
}
FLAGS = [name for name, value in DEFAULTS.items() if isinstance(value, bool)]
TEXTS = ["name", "user", "token"]

BAD: list[dict[str, Any]] = [
    *({name: value} for name in SECONDS for value in (-1, -0.1, float("nan"), float("inf"), "2", None, True)),
    {"connect_timeout": 0},
    *({name: value} for name, least in NUMBERS.items() for value in (least - 1, 5000.5, "9", None, True, float("nan"))),
    *({name: value} for name in FLAGS for value in (1, "yes", None)),
    *({name: value} for name in TEXTS for value in (5, b"bytes", "\ud800")),
    {"user": "u", "password": 5},
    {"user": "u", "password": "\udcff"},
    {"password": "p"},
    {"user": "u", "token": "t"},
    {"user": "u", "password": "p", "token": "t"},
    *({"inbox_prefix": value} for value in ("", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "a\r\nb", 5, None)),
    {"reconnect_delay": 2.0},
    {"on_event": "print"},
]


@pytest.mark.parametrize("fields", BAD, ids=lambda fields: repr(fields)[:60])
def test_a_value_nobody_could_use_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ConnectOptions(**fields)
    assert any(name in str(raised.value) for name in fields)


GOOD: list[dict[str, Any]] = [
    *({name: value} for name in SECONDS for value in (1, 0.001, 1e9)),
    *({name: 0} for name in SECONDS if name != "connect_timeout"),
    *({name: least} for name, least in NUMBERS.items()),
    {"user": "u"},
    {"user": "ü", "password": ""},
    {"token": "t"},
    {"name": "any text\r\n\u2028"},
    {"inbox_prefix": "_INBOX_x.y"},
    {"reconnect_delay": float, "on_event": print},
]


@pytest.mark.parametrize("fields", GOOD, ids=lambda fields: repr(fields)[:60])
def test_a_value_at_its_limit_is_taken(fields: dict[str, Any]) -> None:
    options = ConnectOptions(**fields)
    assert all(in_clear(getattr(options, name)) == value for name, value in fields.items())


SECRETS = {"user": "user-s3cret", "password": "pass-s3cret"}


@pytest.mark.parametrize("fields", [SECRETS, {"token": "token-s3cret"}])
def test_secrets_are_not_shown(fields: dict[str, Any]) -> None:
    options = ConnectOptions(name="shown", **fields)
    for text in (repr(options), str(options), f"{options}"):
        assert "s3cret" not in text
        assert "shown" in text


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "s3cret"},
        {"user": "u", "token": "s3cret"},
        {"user": "s3cret\ud800"},
        {"user": "u", "password": "s3cret\ud800"},
        {"token": "s3cret\ud800"},
        {"token": b"s3cret"},
    ],
    ids=lambda fields: "+".join(fields),
)
def test_errors_do_not_show_secrets_either(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ConnectOptions(**fields)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("fields", [SECRETS, {"token": "token-s3cret"}])
def test_secrets_are_not_pickled(fields: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(ConnectOptions(**fields))
    plain = ConnectOptions(name="x", pending_size=5)
    assert pickle.loads(pickle.dumps(plain)) == plain
