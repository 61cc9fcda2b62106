"""`connect`: the context manager that owns a client's tasks."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Unpack

from nats_proto import ConnectOptionFields, ConnectOptions, read_options
from nats_proto.errors import ConnectionClosedError, LocalProtocolError

from ._client import Client, Message

if TYPE_CHECKING:
    from nats_proto import Session

    from ._engine.hub import Hub

__all__ = ["Connecting", "connect"]


def connect(
    servers: str | Iterable[str] = "nats://127.0.0.1:4222",
    *,
    options: ConnectOptions | None = None,
    **fields: Unpack[ConnectOptionFields],
) -> Connecting:
    """``async with connect(...) as client``: a client for the block. Leaving it closes the client and all its tasks.

    ``servers``: one URL, several, or a comma-separated string. The fields of `ConnectOptions` are given by name, or all
    together as ``options``.

    Raises `InvalidURLError`, `ConfigurationError`, `TypeError` for a name that is no option; entering the block
    raises `NoServersError`, with what each server said, when none could be used. Leaving it closes without draining:
    await `Client.drain` first when messages still wait to be handled. What is raised inside the block comes out as it
    is. Without a block, as in a framework's hooks for start and stop, use `open`.
    """
    prepared = prepare(servers, options, fields)
    del servers, options, fields  # no traceback that prints local variables has a secret
    if isinstance(prepared, Exception):
        raise prepared
    return Connecting(*prepared)


class Connecting:
    """What `connect` returns; to be entered once."""

    def __init__(self, session: Session[Message], options: ConnectOptions) -> None:
        self._session = session
        self._options = options
        self._entered: _Entered | None = None

    async def __aenter__(self) -> Client:
        if self._entered is not None:
            raise LocalProtocolError("connect(...) was entered before: call it again for another client")
        hub, client = make_client(self._session, self._options, alone=False)
        entered = self._entered = _Entered(hub, client)
        await entered.block.enter(hub.run)
        try:
            await begin(self._session, hub)
        except BaseException:
            # Python does not call `__aexit__` when `__aenter__` has raised, so what was started is ended here.
            await entered.leave()
            raise
        return client

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._entered is not None  # it was entered: Python asks for nothing else
        await self._entered.leave()


class _Entered:
    """A client that ends with its block."""

    def __init__(self, hub: Hub[Message], client: Client) -> None:
        from ._engine.block import Block

        self._hub = hub
        self._client = client
        self.block: Final = Block(hub.stopped)

    async def leave(self) -> None:
        """Close the client and end its tasks."""
        try:
            await self._client.close()
        finally:
            # Also when closing has raised: the root is shielded, so without this the block could wait for it for ever.
            self._hub.tasks.stop()
            await self.block.leave()


def make_client(session: Session[Message], options: ConnectOptions, *, alone: bool) -> tuple[Hub[Message], Client]:
    """A client whose root task does not run yet."""
    # What runs clients is loaded with the first of them: a program that only prints its help does without.
    from ._engine.fork import watch
    from ._engine.hub import Hub

    hub = Hub(session, message_type=Message, on_event=options.on_event, inbox_prefix=options.inbox_prefix)
    watch(hub)
    return hub, Client(hub, options, alone=alone)


async def begin(session: Session[Message], hub: Hub[Message]) -> None:
    """Have the session connect, and wait for how that ends. Raises why there is no client."""
    try:
        session.connect(now=hub.now())
    except Exception as defect:
        hub.fail(defect)
    hub.settle()
    await hub.opened.wait()
    if hub.closed is not None:
        raise hub.closed.error or ConnectionClosedError("the client was closed while it connected")


def prepare(
    servers: str | Iterable[str], options: object, fields: ConnectOptionFields
) -> tuple[Session[Message], ConnectOptions] | Exception:
    """The session and its options; or what is wrong with what was given, without the frames that hold it."""
    import random

    from nats_proto import Session

    try:
        checked = read_options(options, fields, awaits=True)
        session = Session(checked, servers, rng=random.SystemRandom(), message_type=Message, two_transports=True)
        return session, checked
    except Exception as error:
        return error.with_traceback(None)
