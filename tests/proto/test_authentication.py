"""Who we say we are: every source, asked anew for each handshake, each failure the error of that attempt alone."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nats_proto import (
    Call,
    Challenge,
    ConnectionEnded,
    ConnectionEvent,
    ConnectionState,
    ConnectOptions,
    Credentials,
    EffectWanted,
    ReadFile,
    Secret,
    Session,
)
from nats_proto.errors import ConfigurationError, CredentialsError, NATSTimeoutError, RemoteProtocolError
from nats_proto.nkeys import KeyPair, Prefix, verify
from tests.proto.driver import PING, PONG, Wire, info, words_of
from tests.proto.secrecy import assert_silent, error_of

NONCE = "PXoWU7zWAMt75FY"
USER = KeyPair.create(Prefix.USER, bytes(range(32)))
ACCOUNT = KeyPair.create(Prefix.ACCOUNT, bytes(range(32)))
SEED = USER.seed.reveal()
JWT = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJ4In0.c2ln"
CREDS = f"""-----BEGIN NATS USER JWT-----
{JWT}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""
JWT_ONLY = f"-----BEGIN NATS USER JWT-----\n{JWT}\n------END NATS USER JWT------\n"
KEYS = ("user", "pass", "auth_token", "jwt", "nkey", "sig")


def identity(line: bytes) -> dict[str, object]:
    """What CONNECT says of us."""
    assert line.startswith(b"CONNECT ")
    fields = json.loads(line[len(b"CONNECT ") : line.index(b"\r\n")])
    return {key: fields[key] for key in KEYS if key in fields}


def signed(fields: dict[str, object], nonce: str = NONCE) -> dict[str, object]:
    """The same with the signature checked and left out."""
    signature = str(fields.pop("sig"))
    assert "=" not in signature
    assert verify(USER.public_key, nonce.encode(), base64.urlsafe_b64decode(signature + "=="))
    return fields


def asked(events: list[ConnectionEvent]) -> Call | ReadFile:
    (wanted,) = (event for event in events if isinstance(event, EffectWanted))
    return wanted.effect


def failure(wire: Wire, events: list[ConnectionEvent]) -> Exception:
    """The error that ended the attempt; nothing has left."""
    assert isinstance(events[-1], ConnectionEnded)
    assert wire.written() == b""
    return events[-1].error


# --- what is known from the start: nobody is asked -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("nats://a", {}, {}),
        ("nats://a", {"user": "u", "password": "p"}, {"user": "u", "pass": "p"}),
        ("nats://a", {"user": "u"}, {"user": "u", "pass": ""}),
        ("nats://a", {"token": Secret("t")}, {"auth_token": "t"}),
        ("nats://me:p%40ss@a", {"user": "u", "password": "p"}, {"user": "me", "pass": "p@ss"}),
        ("nats://me:p@a", {"token": "t"}, {"user": "me", "pass": "p"}),
        ("nats://tok%2Fen@a", {"user": "u", "password": "p"}, {"auth_token": "tok/en"}),
        ("nats://a", {"nkey_seed": SEED}, {"nkey": USER.public_key, "sig": True}),
        ("nats://a", {"credentials": CREDS}, {"jwt": JWT, "sig": True}),
        ("nats://a", {"credentials": CREDS.encode()}, {"jwt": JWT, "sig": True}),
        ("nats://a", {"credentials": CREDS.replace("\n", "\r\n")}, {"jwt": JWT, "sig": True}),
        ("nats://a", {"credentials": Secret(CREDS)}, {"jwt": JWT, "sig": True}),
        ("nats://a", {"credentials": JWT_ONLY}, {"jwt": JWT}),
        ("nats://a", {"credentials": JWT}, {"jwt": JWT}),
        (
            "nats://a",
            {"credentials": CREDS, "user": "u", "password": "p"},
            {"user": "u", "pass": "p", "jwt": JWT, "sig": True},
        ),
        ("nats://me:x@a", {"credentials": CREDS}, {"user": "me", "pass": "x", "jwt": JWT, "sig": True}),
    ],
)
def test_options_and_url(url: str, options: dict[str, Any], expected: dict[str, object]) -> None:
    wire = Wire(url=url, **options)
    wire.feed(info(nonce=NONCE))
    said = identity(wire.written())
    if "sig" in expected:
        said = {**signed(said), "sig": True}
    assert said == expected


def test_without_a_nonce_a_jwt_goes_alone_and_a_key_not_at_all() -> None:
    wire = Wire(credentials=CREDS)
    wire.feed(info())
    assert identity(wire.written()) == {"jwt": JWT}
    for options in ({"nkey_seed": SEED}, {"auth": lambda challenge: None}):
        wire = Wire(**options)
        events = wire.feed(info())
        if "auth" in options:
            wire.connection.performed(asked(events), Credentials(nkey=USER.public_key, signature=bytes(64)))
            events = wire.connection.events_received()
        error = failure(wire, events)
        assert isinstance(error, CredentialsError)
        assert "nonce" in str(error)


def test_a_nonce_is_signed_as_it_is_and_encoded() -> None:
    strange = 'a\r\nPUB b 0\r\n\r\n\x00"é'
    wire = Wire(nkey_seed=SEED)
    wire.feed(info(nonce=strange))
    assert words_of(wire.connection.data_to_send()[0]) == ["CONNECT", "PING"]
    wire = Wire(nkey_seed=SEED)
    wire.feed(info(nonce=strange))
    assert signed(identity(wire.written()), strange) == {"nkey": USER.public_key}


@pytest.mark.parametrize("options", [{}, {"nkey_seed": SEED}])
def test_an_endless_nonce_ends_the_attempt(options: dict[str, Any]) -> None:
    wire = Wire(**options)
    error = failure(wire, wire.feed(info(nonce="n" * 1025)))
    assert isinstance(error, RemoteProtocolError)
    assert "nonce of 1025" in str(error)
    wire = Wire(**options)
    wire.feed(info(nonce="n" * 1024))
    assert wire.connection.state is ConnectionState.AWAITING_PONG


# --- what somebody is asked for --------------------------------------------------------------------------------------


def test_an_auth_callback_answers_for_everything() -> None:
    def auth(challenge: Challenge) -> Credentials:
        raise AssertionError("the core calls nobody")

    wire = Wire(url="nats://a:1", auth=auth)
    effect = asked(wire.feed(info(nonce=NONCE)))
    assert isinstance(effect, Call)
    assert effect.function is auth
    assert effect.arguments == (Challenge(server="nats://a:1", nonce=NONCE.encode()),)
    assert wire.connection.state is ConnectionState.GREETING
    assert wire.written() == b""
    wire.connection.performed(effect, Credentials(jwt=JWT, signature=USER.sign(NONCE.encode()), user="u"))
    assert signed(identity(wire.written())) == {"user": "u", "pass": "", "jwt": JWT}
    assert wire.feed(PONG)
    assert wire.connection.state is ConnectionState.OPEN


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Credentials(), {}),
        (Credentials(token="t"), {"auth_token": "t"}),
        (Credentials(user="u", password=Secret("p")), {"user": "u", "pass": "p"}),
        (Credentials(seed=SEED), {"nkey": USER.public_key, "sig": True}),
        (Credentials(jwt=JWT, seed=Secret(SEED)), {"jwt": JWT, "sig": True}),
        (
            Credentials(nkey=USER.public_key, signature=USER.sign(NONCE.encode())),
            {"nkey": USER.public_key, "sig": True},
        ),
    ],
)
def test_answers_of_an_auth_callback(answer: Credentials, expected: dict[str, object]) -> None:
    wire = Wire(auth=lambda challenge: answer)
    wire.connection.performed(asked(wire.feed(info(nonce=NONCE))), answer)
    said = identity(wire.written())
    if "sig" in expected:
        said = {**signed(said), "sig": True}
    assert said == expected


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (None, "NoneType, not Credentials"),
        ("token-s3cret", "str, not Credentials"),
        ({"user": "s3cret"}, "dict, not Credentials"),
        (Credentials(jwt=JWT, seed="SUs3cret"), "seed"),
        (Credentials(seed=ACCOUNT.seed), "account, not of a user"),
    ],
)
def test_wrong_answers_of_an_auth_callback(answer: object, hint: str) -> None:
    wire = Wire(auth=lambda challenge: None)
    wire.connection.performed(asked(wire.feed(info(nonce=NONCE))), answer)
    error = failure(wire, wire.connection.events_received())
    assert isinstance(error, CredentialsError)
    assert hint in str(error)
    assert "s3cret" not in str(error)
    assert ACCOUNT.seed.reveal() not in str(error)


@pytest.mark.parametrize("given", ["~/my.creds", "$HOME/x", "plain.creds", Path("some/where.creds")])
def test_a_path_is_read_for_each_handshake(given: str | Path) -> None:
    wire = Wire(credentials=given)
    effect = asked(wire.feed(info(nonce=NONCE)))
    assert isinstance(effect, ReadFile)
    assert effect.path == str(given)
    assert effect.limit == 1024 * 1024
    wire.connection.performed(effect, CREDS.encode())
    assert signed(identity(wire.written())) == {"jwt": JWT}


@pytest.mark.parametrize("provided", [CREDS, CREDS.encode(), bytearray(CREDS.encode()), Secret(CREDS)])
def test_a_provider_gives_the_content(provided: object) -> None:
    def provider() -> Any:
        return provided

    wire = Wire(credentials=provider)
    effect = asked(wire.feed(info(nonce=NONCE)))
    assert isinstance(effect, Call)
    assert (effect.function, effect.arguments) == (provider, ())
    wire.connection.performed(effect, provided)
    assert signed(identity(wire.written())) == {"jwt": JWT}


def test_a_provider_may_give_a_path() -> None:
    wire = Wire(credentials=lambda: Path("x.creds"))
    wire.connection.performed(asked(wire.feed(info(nonce=NONCE))), Path("x.creds"))
    effect = asked(wire.connection.events_received())
    assert isinstance(effect, ReadFile)
    wire.connection.performed(effect, CREDS.encode())
    assert signed(identity(wire.written())) == {"jwt": JWT}


def test_a_path_that_a_provider_gives_is_not_shown_as_text() -> None:
    """It may be a secret by mistake; a path object is a path."""
    for provided, shown in (("s3cret", False), (Path("s3cret"), True)):
        wire = Wire(credentials=lambda provided=provided: provided)
        wire.connection.performed(asked(wire.feed(info(nonce=NONCE))), provided)
        effect = asked(wire.connection.events_received())
        assert isinstance(effect, ReadFile)
        assert effect.path == "s3cret"
        assert ("s3cret" in repr(effect)) == shown
        wire.connection.perform_failed(effect, FileNotFoundError(2, "No such file or directory", "s3cret"))
        error = failure(wire, wire.connection.events_received())
        assert ("s3cret" in str(error)) == shown
        assert "cannot be read: No such file or directory" in str(error)


@pytest.mark.parametrize(
    "given",
    [SEED, f" {SEED}\n", SEED[:50], JWT.rpartition(".")[0], f" {JWT[:12]}", "eyJhbGciOiJub25lIn0 eyJzdWI"],
    ids=ascii,
)
def test_a_piece_of_credentials_is_no_path(given: str) -> None:
    with pytest.raises(CredentialsError) as raised:
        Wire(credentials=given)
    assert given.strip() not in str(raised.value)
    wire = Wire(credentials=lambda: given)
    wire.connection.performed(asked(wire.feed(info(nonce=NONCE))), given)
    assert isinstance(failure(wire, wire.connection.events_received()), CredentialsError)


@pytest.mark.parametrize("given", ["eyJ/x.creds", "SU.creds", "./eyJx", "SUAMK45J", "user"])
def test_what_only_looks_a_little_like_it_is_a_path(given: str) -> None:
    assert isinstance(asked(Wire(credentials=given).feed(info(nonce=NONCE))), ReadFile)


@pytest.mark.parametrize(
    ("provided", "hint"), [(None, "NoneType"), (5, "int"), ("x\ny s3cret", "NATS USER JWT"), (b"", "NATS USER JWT")]
)
def test_what_a_provider_must_not_give(provided: object, hint: str) -> None:
    wire = Wire(credentials=lambda: provided)  # type: ignore[arg-type, return-value]
    wire.connection.performed(asked(wire.feed(info(nonce=NONCE))), provided)
    error = failure(wire, wire.connection.events_received())
    assert isinstance(error, CredentialsError)
    assert hint in str(error)
    assert "s3cret" not in str(error)


# --- failures --------------------------------------------------------------------------------------------------------


def failed_call(error: BaseException) -> Exception:
    wire = Wire(auth=lambda challenge: None)
    wire.connection.perform_failed(asked(wire.feed(info(nonce=NONCE))), error)
    return failure(wire, wire.connection.events_received())


@pytest.mark.parametrize("raised", [ValueError("s3cret"), OSError(5, "s3cret"), KeyboardInterrupt("s3cret")])
def test_of_what_a_callback_raises_only_the_class_is_told(raised: BaseException) -> None:
    error = failed_call(raised)
    assert isinstance(error, CredentialsError)
    assert type(raised).__name__ in str(error)
    assert "s3cret" not in str(error)
    assert error.__cause__ is error.__context__ is None


@pytest.mark.parametrize(
    ("raised", "hint"),
    [
        (FileNotFoundError(2, "No such file or directory", "/x"), "No such file or directory"),
        (OSError("it has more than 5 bytes"), "more than 5 bytes"),
        (OSError(), "OSError"),
    ],
)
def test_of_a_file_it_is_told_why_it_cannot_be_read(raised: OSError, hint: str) -> None:
    wire = Wire(credentials="some/where.creds")
    wire.connection.perform_failed(asked(wire.feed(info(nonce=NONCE))), raised)
    error = failure(wire, wire.connection.events_received())
    assert isinstance(error, CredentialsError)
    assert "'some/where.creds'" in str(error)
    assert hint in str(error)


def test_an_answer_that_has_to_be_awaited_is_of_no_use() -> None:
    """Whoever can await it has done so."""

    async def auth(challenge: Challenge) -> Credentials:
        raise AssertionError("nobody runs it")

    wire = Wire(auth=auth)
    answer = auth(Challenge(server="", nonce=b""))
    answer.close()
    wire.connection.performed(asked(wire.feed(info(nonce=NONCE))), answer)
    error = failure(wire, wire.connection.events_received())
    assert isinstance(error, CredentialsError)
    assert "the auth callback is async" in str(error)


def test_an_answer_that_never_comes_is_bounded_by_connect_timeout() -> None:
    wire = Wire(auth=lambda challenge: None, connect_timeout=3.0)
    effect = asked(wire.feed(info(nonce=NONCE)))
    assert wire.connection.next_timeout() == wire.now + 3.0
    (ended,) = wire.tick(3.0)
    assert isinstance(ended, ConnectionEnded)
    assert isinstance(ended.error, NATSTimeoutError)
    assert "auth callback" in str(ended.error)
    wire.connection.performed(effect, Credentials(token="late"))
    wire.connection.perform_failed(effect, ValueError())
    assert wire.connection.events_received() == []
    assert wire.written() == b""


def test_an_info_that_comes_meanwhile_asks_anew() -> None:
    wire = Wire(auth=lambda challenge: None)
    first = asked(wire.feed(info(nonce="one")))
    second = asked(wire.feed(PING + info(nonce="two")))
    assert isinstance(second, Call)
    assert second.arguments == (Challenge(server="nats://a:4222", nonce=b"two"),)
    wire.connection.performed(first, Credentials(token="stale"))
    assert wire.written() == b""
    wire.connection.performed(second, Credentials(token="fresh"))
    assert identity(wire.written()) == {"auth_token": "fresh"}
    wire.feed(PONG)
    assert words_of(wire.written()) == ["PONG"]


# --- options and answers that do not go together ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"auth": print, "token": "t"}, "auth answers for everything"),
        ({"auth": print, "nkey_seed": SEED, "credentials": CREDS}, "nkey_seed, credentials"),
        ({"auth": "x"}, "callable"),
        ({"nkey_seed": SEED, "credentials": CREDS}, "credentials have a seed"),
        ({"credentials": 5}, "credentials must be"),
        ({"nkey_seed": b"x"}, "nkey_seed must be text"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint):
        Wire(**options)


@pytest.mark.parametrize(
    "options", [{"nkey_seed": "SUs3cret"}, {"nkey_seed": ACCOUNT.seed}, {"credentials": "-----BEGIN s3cret"}]
)
def test_credentials_that_cannot_be_used_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(CredentialsError) as raised:
        Wire(**options)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: Credentials(password="p"), "password without a user"),
        (lambda: Credentials(user="u", token="t"), "one of them"),
        (lambda: Credentials(jwt=JWT, seed=SEED, signature=bytes(64)), "one of them is enough"),
        (lambda: Credentials(signature=bytes(64)), "without jwt or nkey"),
        (lambda: Credentials(nkey=USER.public_key), "without seed or signature"),
        (lambda: Credentials(user=5), "user must be text"),  # type: ignore[arg-type]
        (lambda: Credentials(token="\ud800"), "token must be text"),
        (lambda: Credentials(jwt=JWT, signature=b"short"), "64 bytes"),
        (lambda: Credentials(jwt=JWT, signature="x" * 64), "64 bytes"),  # type: ignore[arg-type]
        (lambda: Credentials(user=b"u"), "user must be text"),  # type: ignore[arg-type]
    ],
)
def test_answers_that_do_not_go_together(make: Callable[[], Credentials], hint: str) -> None:
    with pytest.raises(CredentialsError, match=hint):
        make()


def test_what_answers_and_options_raise_has_no_frame_that_holds_them() -> None:
    secret = "s3cret-and-long"
    wrong: list[Callable[[], object]] = [
        lambda: Credentials(password=secret),
        lambda: Credentials(user=secret, token=secret),
        lambda: Credentials(jwt=JWT, signature=secret),  # type: ignore[arg-type]
        lambda: Credentials(passwd=secret),  # type: ignore[call-arg]
        lambda: ConnectOptions(password=secret),
        lambda: ConnectOptions(user=secret, password=secret, connect_timeout=-1.0),
        lambda: ConnectOptions(auth=secret),  # type: ignore[arg-type]
        lambda: ConnectOptions(tls=secret),  # type: ignore[arg-type]
        lambda: ConnectOptions(nkey_seed=secret),
        lambda: ConnectOptions(credentials=[secret]),  # type: ignore[arg-type]
        lambda: ConnectOptions(proxy=f"http://me:{secret}@h:x"),
        lambda: ConnectOptions(websocket_headers={"Authorization": f"{secret}\n"}),
        lambda: ConnectOptions(passwd=secret),  # type: ignore[call-arg]
        lambda: Session(ConnectOptions(), f"nats://me:{secret}@h:x", rng=random.Random(1)),
        lambda: Session(ConnectOptions(), [f"nats://me:{secret}@h".encode()], rng=random.Random(1)),  # type: ignore[list-item]
    ]
    for make in wrong:
        assert_silent(error_of(make), secret.encode())


def test_credentials_show_nothing() -> None:
    answer = Credentials(user="s3cret", password="s3cret", jwt=JWT, seed=SEED)
    for text in (repr(answer), str(answer), f"{answer}"):
        assert "s3cret" not in text
        assert SEED not in text
        assert text == "Credentials(user=***, password=***, jwt=***, seed=***)"
