"""No secret leaves: eight clients with fifteen kinds of secrets fail in every way there is, on three legs. What can be
seen of it (values, errors, tracebacks with local variables, logs, names, pickles) has no piece of any of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from nats_proto import (
    Call,
    ConnectOptions,
    Perform,
    Proxy,
    Server,
    Session,
    parse_servers,
)
from nats_proto.errors import CredentialsError, NATSError, TransportError
from tests.adapters.legs import Leg
from tests.faults.canary import Look, hits
from tests.faults.canary_cast import NONCE, Cast, Role
from tests.faults.canary_echoes import ECHOES, a_refusal_that_quotes_a_secret
from tests.faults.canary_misuses import MISUSES, a_callback_that_raises_the_secret
from tests.faults.canary_ways import (
    NETWORK,
    SERVER,
    Path,
    Stage,
    a_refused_dial,
    a_silent_server,
    a_write_that_fails,
    refused_writes,
)
from tests.faults.peer import info

pytestmark = pytest.mark.anyio

PATHS = (*NETWORK, *SERVER, *ECHOES, *MISUSES)


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    made = Cast(tmp_path_factory.mktemp("canary"))
    yield made
    made.close()


async def walk(path: Path, leg: Leg, cast: Cast, capfd: pytest.CaptureFixture[str]) -> list[Look]:
    """Each client goes that way, all at once: what was to be seen of each, and of the process."""
    whole = Look()
    stages = [Stage(leg, role, cast, Look()) for role in cast.roles]
    with whole.listening(), refused_writes() if path is a_write_that_fails else nullcontext():
        async with anyio.create_task_group() as group:
            for stage in stages:
                group.start_soon(path, stage)
    out, err = capfd.readouterr()
    whole.text(out, "stdout")
    whole.text(err, "stderr")
    return [whole, *(stage.look for stage in stages)]


def found_in(looks: list[Look], cast: Cast) -> list[str]:
    return [hit for look in looks for hit in hits(look, cast.index)]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
async def test_no_secret_leaves(leg: Leg, path: Path, cast: Cast, capfd: pytest.CaptureFixture[str]) -> None:
    found = found_in(await walk(path, leg, cast, capfd), cast)
    if path in ECHOES:  # a name that the server says is left as it is: refusals of subjects may have it
        found = [hit for hit in found if not hit.startswith("user:")]
    assert not found, f"{len(found)} texts show a secret:\n" + "\n".join(found[:20])


def test_there_is_enough_to_look_at(cast: Cast) -> None:
    assert (len(cast.kinds), len(PATHS)) == (15, 27)  # docs/authentication.md says so, too
    assert set(cast.kinds) - {"user"} <= {kind for role in cast.roles for kind in role.kinds}


# --- without a client -------------------------------------------------------------------------------------------------


def test_the_core_alone(cast: Cast) -> None:
    """What an embedder gets to see: commands, effects, events, states."""
    look = Look()
    for role in cast.roles:
        options = ConnectOptions(**role.options(4222, awaits=False))
        session = Session(options, role.url(4222), rng=random.Random(1))
        session.connect(now=0.0)
        (dial,) = session.commands_to_run()
        session.transport_connected(now=0.0)
        session.receive_data(info(nonce=NONCE, tls_required=role.tls is not None), now=0.0)
        asked = [command for command in session.commands_to_run() if isinstance(command, Perform)]
        for command in asked:
            answer_effect(session, command, look)
        assert session.data_to_send() or role.lower()
        things = [options, dial, *asked, session, session._link.connection, *session.events_received()]
        look(things, f"session of {role.name}")
    look(Server.parse(cast.roles[0].url(4222)), "a server")
    assert not hits(look, cast.index)


def answer_effect(session: Session[Any], command: Perform, look: Look) -> None:
    """As an adapter does."""
    effect = command.effect
    if isinstance(effect, Call):
        answer = effect.function(*effect.arguments)
    else:
        with open(effect.path, "rb") as file:
            answer = file.read()
    if not isinstance(answer, (str, bytes, list)):  # those are the user's, not ours
        look(answer, "an answer")
    session.performed(command, answer, now=0.0)


def test_urls_that_cannot_be_read(cast: Cast) -> None:
    look = Look()
    makes: list[Callable[[Any], object]] = [
        Server.parse,
        Proxy.parse,
        parse_servers,
        lambda url: Session(ConnectOptions(), url, rng=random.Random(1)),
    ]
    for role in cast.roles:
        for url in bad_urls(role):
            for given in (url, url.encode(), [url.encode()], [url, 5], {url: 1}):
                for make in makes:
                    try:
                        make(given)
                    except (TypeError, ValueError) as error:
                        look(error, f"error of {make} of {role.name}")
    assert len(look.errors) > 100
    assert not hits(look, cast.index)


def bad_urls(role: Role) -> list[str]:
    info = role.user_info or f"me:{quote(role.secrets[0], safe='')}@"
    return [
        f"nats://{info}127.0.0.1:99999",
        f"http://{info}127.0.0.1",
        f"nats://{info}[::1",
        f"nats://{info}bad host",
        f"nats://{info}",
        f"nats://{info}h/@x",
        f"nats://user:{info}h,nats://other",
        f"{info}h:x",
        f"nats://{info}h#fragment",
        f"nats://{info.rstrip('@')}%zz@h",
        f"nats://user:{info.rstrip('@')}",
        f"ws://h/?{info},nats://{info}h",
        f"nats://{info}" + "x" * 300,
    ]


# --- can it fail? -----------------------------------------------------------------------------------------------------


def _as_it_is(confidence: object, text: str) -> str:
    return text


def _with_traceback(error_type: type[TransportError], what: str, error: Exception) -> NATSError:
    wrapped = error_type(what)
    wrapped.__cause__ = error
    return wrapped


def _with_its_text(effect: object, error: BaseException) -> NATSError:
    return CredentialsError(f"a callback raised {error}")


def _with_user(server: Server) -> str:
    user = f"{server.user.reveal()}:***@" if server.user is not None else ""
    return f"{server.scheme}://{user}{server.host}:{server.port}"


LEAKS: dict[str, tuple[str, object, Path]] = {
    "a secret prints": ("nats_proto._secret.Secret.__repr__", lambda secret: secret.reveal(), a_refused_dial),
    "a URL has its user": ("nats_proto._servers.server.Server.url", property(_with_user), a_silent_server),
    "a callback's error is quoted": (
        "nats_proto._connection.connection._failure",
        _with_its_text,
        a_callback_that_raises_the_secret,
    ),
    "a server is quoted": (
        "nats_proto._connection.confidence.Confidence.masked",
        _as_it_is,
        a_refusal_that_quotes_a_secret,
    ),
    "frames of a write are kept": (
        "nats_proto._connection.connection.transport_error",
        _with_traceback,
        a_write_that_fails,
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
async def test_a_planted_leak_is_found(
    leg: Leg, leak: str, cast: Cast, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where, planted, path = LEAKS[leak]
    monkeypatch.setattr(where, planted)
    assert found_in(await walk(path, leg, cast, capfd), cast)
