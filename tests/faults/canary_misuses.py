"""The canary's ways to misuse a client: URLs, options, files and functions that cannot be used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import anyio
import anyio.lowlevel

from nats_proto import ConnectOptions, Credentials
from nats_proto.errors import ConfigurationError, CredentialsError, InvalidURLError, NATSTimeoutError
from tests.faults.canary_ways import PATIENT, SHORT, Path, Stage
from tests.faults.peer import Peer, hold

__all__ = ["MISUSES", "a_callback_that_raises_the_secret"]


async def a_bad_url(stage: Stage) -> None:
    role = stage.role
    info = role.user_info or f"me:{quote(role.secrets[0], safe='')}@"
    for url in (f"nats://{info}127.0.0.1:99999", f"nats://{info}", f"nats://{info}[::1,nats://other"):
        await stage.life(4222, expected=InvalidURLError, url=url)
    for servers in ([role.url(4222).encode()], [role.url(4222), None], role.url(4222).encode(), 5):
        await stage.life(4222, expected=TypeError, url=servers)
    for proxy in (f"https://{role.proxy}h", f"http://{role.proxy}h:x", f"http://{role.proxy}"):
        await stage.life(4222, expected=ConfigurationError, proxy=proxy)


async def bad_options(stage: Stage) -> None:
    """What does not go together, what is of the wrong type, what is spelled wrong."""
    role = stage.role
    for more in (
        {"connect_timeout": -1.0},
        {"password": role.secrets[0], "user": None},
        {"token": role.secrets[0], "user": role.secrets[0]},
        {"auth": role.secrets[0]},
        {"user": [role.secrets[0]]},
        {"passwd": role.secrets[0]},
        {"credentials": [role.secrets[0]]},
        {"nkey_seed": role.secrets[0]},
        {"tls": role.secrets[0]},
        {"websocket_headers": {"Authorization": role.secrets[0] + "\n"}},
        {"websocket_headers": [role.secrets[0]]},
        {"options": role.options(4222, stage.awaits)},
        {"options": ConnectOptions()},
    ):
        try:
            async with stage.leg.connect(role.url(4222), **{**role.options(4222, stage.awaits), **more}):
                pass
        except Exception as error:
            stage.look(error, f"error of bad options of {role.name}")
        if "options" not in more:
            try:
                ConnectOptions(**{**role.options(4222, stage.awaits), **more})
            except Exception as error:
                stage.look(error, f"error of ConnectOptions of {role.name}")
    for answer in (
        {"password": role.secrets[0]},
        {"token": role.secrets[0], "user": "me"},
        {"passwd": role.secrets[0]},
    ):
        try:
            Credentials(**answer)
        except Exception as error:
            stage.look(error, "error of Credentials")
    stage.look.error(ConfigurationError)


async def bad_creds(stage: Stage) -> None:
    """Malformed, cut, of another kind, missing, not a file; as a path and as content."""
    if "auth" in stage.role.given(stage.awaits):
        return
    folder = stage.cast.folder
    good = (folder / "user.creds").read_text()
    jwt, seed = good.splitlines()[1], good.splitlines()[5]
    bad = folder / f"{stage.role.name}-{stage.leg.name}.creds"
    contents = [
        good[: len(good) // 2],
        good.replace(seed, seed[:-3] + "AAA"),
        good.replace(jwt, "\n".join(jwt.split("."))),
        jwt.rpartition(".")[0],
        seed,
        good + good,
    ]
    with Peer([stage.role.opening(), hold()], again=True) as peer:
        for content in contents:
            bad.write_text(content)
            bad.chmod(0o644)
            await stage.life(peer.port, expected=CredentialsError, nkey_seed=None, credentials=str(bad))
            await stage.life(peer.port, expected=CredentialsError, nkey_seed=None, credentials=content)
            await stage.life(peer.port, expected=CredentialsError, nkey_seed=None, credentials=content.encode())
        for path in (folder / "missing.creds", folder, "x" * 300):
            await stage.life(peer.port, expected=CredentialsError, nkey_seed=None, credentials=path)


# --- paths: functions of the user -------------------------------------------------------------------------------------


def failing(stage: Stage, function: Callable[..., Any]) -> dict[str, Any]:
    """The role's callback, replaced."""
    return {"nkey_seed": None, stage.role.callback: function}


async def a_callback_that_raises_the_secret(stage: Stage) -> None:
    role, secrets = stage.role, " ".join(stage.role.secrets)
    raised: list[Exception] = [
        RuntimeError(f"cannot use {secrets}"),
        OSError(5, secrets, secrets),
        CredentialsError(f"the vault said {secrets}"),
        UnicodeEncodeError("ascii", secrets, 0, 1, "no"),
    ]

    def raising(*args: object) -> None:
        calls.append(1)
        try:
            raise ValueError(secrets)
        except ValueError as error:
            raise raised[len(calls) % len(raised)] from error

    async def later(*args: object) -> None:
        await anyio.lowlevel.checkpoint()
        raising(*args)

    calls: list[int] = []
    function = later if stage.awaits and stage.role.name in ("token", "auth", "seed") else raising
    await stage.outlive(len(raised), [role.opening(), hold()], expected=CredentialsError, **failing(stage, function))


async def a_callback_that_returns_something_else(stage: Stage) -> None:
    role = stage.role
    secret = role.secrets[0]
    answers: list[Any] = [secret, {"pass word": secret}, 5, None, [secret], secret.encode()]
    calls: list[int] = []

    def answer(*args: object) -> Any:
        calls.append(1)
        return answers[min(len(calls), len(answers)) - 1]

    await stage.outlive(
        len(answers),
        [role.opening(), hold()],
        expected=(CredentialsError, ConfigurationError),
        **failing(stage, answer),
    )


async def a_callback_that_hangs(stage: Stage) -> None:
    released = threading.Event()

    def hang(*args: object) -> None:
        secrets = stage.role.secrets
        released.wait(PATIENT)
        raise ValueError(secrets)

    try:
        with Peer([stage.role.opening(), hold()], again=True) as peer:
            await stage.life(peer.port, expected=NATSTimeoutError, connect_timeout=SHORT, **failing(stage, hang))
    finally:
        released.set()


MISUSES: Final[tuple[Path, ...]] = (
    a_bad_url,
    bad_options,
    bad_creds,
    a_callback_that_raises_the_secret,
    a_callback_that_returns_something_else,
    a_callback_that_hangs,
)
