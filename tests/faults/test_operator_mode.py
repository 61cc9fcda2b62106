"""What `tests.operator_mode` makes is what a real server takes it for: a JWT that is good, old, revoked or forged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from nats_proto._auth.user_credentials import parse_credentials
from nats_proto._secret import Secret
from nats_proto.nkeys import KeyPair
from nats_sync.testing import LocalServer
from tests.faults.bare_client import PATIENCE, BareClient
from tests.operator_mode import Account, OperatorMode, User

REFUSED = "-ERR 'Authorization Violation'"


@pytest.fixture
def world() -> OperatorMode:
    return OperatorMode()


@pytest.fixture
def server(world: OperatorMode) -> Iterator[LocalServer]:
    with LocalServer(world.config()) as local:
        yield local


def answer(server: LocalServer, user: User, signer: KeyPair | None) -> str:
    with BareClient(server) as client:
        return client.connect(signer=signer, jwt=user.jwt)


def last_words(client: BareClient) -> str:
    """What a server says next, but for the PING that it may send to see how far away a client is."""
    while (said := client.answer()) == "PING":
        pass
    return said


def until(condition: Callable[[], bool]) -> None:
    """What expires is refused when the second in its JWT is over, not when it begins."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_a_user_is_accepted(server: LocalServer, world: OperatorMode) -> None:
    alice = world.user("alice")
    assert answer(server, alice, alice.key) == "PONG"
    assert answer(server, world.sys.user(), None) == REFUSED
    later = world.user("made while the server runs", expires_in=60)
    assert answer(server, later, later.key) == "PONG"


def test_its_credentials_are_what_we_read(server: LocalServer, world: OperatorMode) -> None:
    alice = world.user("alice")
    found = parse_credentials(alice.creds)
    assert (found.jwt, found.seed) == (Secret(alice.jwt), Secret(alice.seed))
    assert found.seed is not None
    with BareClient(server) as client, KeyPair.from_seed(found.seed) as key:
        assert client.connect(signer=key, jwt=found.jwt.reveal()) == "PONG"


def test_a_bearer_need_not_sign(server: LocalServer, world: OperatorMode) -> None:
    assert answer(server, world.user(bearer=True), None) == "PONG"


def test_without_a_right_signature_it_is_refused(server: LocalServer, world: OperatorMode) -> None:
    alice, bob = world.user("alice"), world.user("bob")
    assert answer(server, alice, bob.key) == REFUSED
    assert answer(server, alice, None) == REFUSED


@pytest.mark.parametrize("expires_in", [-1, -3600, -0.5])
def test_a_user_that_has_run_out_is_refused(server: LocalServer, world: OperatorMode, expires_in: float) -> None:
    old = world.user(expires_in=expires_in)
    assert answer(server, old, old.key) == REFUSED


def test_a_jwt_that_is_forged_is_refused(server: LocalServer, world: OperatorMode) -> None:
    stranger = OperatorMode(seed=1).user()
    assert stranger.public_key != OperatorMode().user().public_key
    by_itself = world.user(signer=stranger.key)
    by_an_unknown_account = world.user(signer=stranger.account.key)
    header, _, signature = world.user().jwt.split(".")
    changed = User(world.app, stranger.key, f"{header}.{stranger.jwt.split('.')[1]}.{signature}")
    for user in (stranger, by_itself, by_an_unknown_account, changed):
        assert answer(server, user, user.key) == REFUSED


def test_permissions_are_the_servers_business(server: LocalServer, world: OperatorMode) -> None:
    user = world.user(publish=["a.>"], subscribe=["b"])
    with BareClient(server) as client:
        assert client.connect(signer=user.key, jwt=user.jwt) == "PONG"
        client.send("PUB a.x 0\r\n")
        client.send("SUB b 1")
        assert client.ping() == "PONG"
        client.send("PUB c 0\r\n")
        assert client.answer() == "-ERR 'Permissions Violation for Publish to \"c\"'"
        client.send("SUB c 2")
        assert client.answer() == "-ERR 'Permissions Violation for Subscription to \"c\"'"
        assert client.ping() == "PONG"


def test_a_user_runs_out_while_connected(server: LocalServer, world: OperatorMode) -> None:
    user = world.user(expires_in=2)
    with BareClient(server) as client:
        assert client.connect(signer=user.key, jwt=user.jwt) == "PONG"
        assert last_words(client) == "-ERR 'User Authentication Expired'"
        assert client.answer() == ""
    until(lambda: answer(server, user, user.key) == REFUSED)
    renewed = world.user(key=user.key)
    assert answer(server, renewed, user.key) == "PONG"


def test_a_user_is_revoked_while_connected(server: LocalServer, world: OperatorMode) -> None:
    user, other = world.user(), world.user()
    with BareClient(server) as client, BareClient(server) as untouched:
        assert client.connect(signer=user.key, jwt=user.jwt) == "PONG"
        assert untouched.connect(signer=other.key, jwt=other.jwt) == "PONG"
        world.revoke(user)
        server.reload(world.config())
        assert client.answer() == "-ERR 'User Authentication Revoked'"
        assert client.answer() == ""
        assert untouched.ping() == "PONG"
    assert answer(server, user, user.key) == REFUSED
    for _ in range(3):  # more often than there are seconds
        renewed = world.user(key=user.key)
        assert answer(server, renewed, user.key) == "PONG"
        world.revoke(renewed)
        server.reload(world.config())
        assert answer(server, renewed, user.key) == REFUSED


def test_an_account_runs_out_while_connected(server: LocalServer, world: OperatorMode) -> None:
    account = world.account("SHORT", expires_in=2)
    server.reload(world.config())
    user = account.user()
    with BareClient(server) as client:
        assert client.connect(signer=user.key, jwt=user.jwt) == "PONG"
        assert last_words(client) == "-ERR 'Account Authentication Expired'"
        assert client.answer() == ""
    until(lambda: answer(server, user, user.key) == REFUSED)


def test_an_account_has_limits(server: LocalServer, world: OperatorMode) -> None:
    account: Account = world.account("SMALL", conn=1)
    server.reload(world.config())
    user = account.user()
    with BareClient(server) as client:
        assert client.connect(signer=user.key, jwt=user.jwt) == "PONG"
        assert answer(server, user, user.key) == "-ERR 'maximum account active connections exceeded'"
        assert client.ping() == "PONG"


def test_the_same_world_has_the_same_keys() -> None:
    first, second, other = (OperatorMode(seed).user() for seed in (5, 5, 6))
    assert first.seed == second.seed != other.seed


def test_it_has_the_same_operator_in_every_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server does not reload another one, be it the same with a later date."""
    world = OperatorMode()
    before = world.config()["operator"]
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert world.config()["operator"] == before
