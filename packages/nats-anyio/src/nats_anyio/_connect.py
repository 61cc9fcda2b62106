"""`connect`: the context manager that owns a client's tasks."""

from __future__ import annotations

import random
from collections.abc import Iterable
from types import TracebackType
from typing import Unpack

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from nats_proto import ConnectOptionFields, ConnectOptions, Session, read_options, unusable_callback
from nats_proto.errors import ConfigurationError, LocalProtocolError

from ._client import Client
from ._dispatch import Dispatcher
from ._message import Message
from ._pump import Pump

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
    raises `NoServersError`, with what each server said, when none could be used. Leaving it closes without
    draining: await `Client.drain` first when messages still wait to be handled. What is raised inside the block
    comes out as it is.
    """
    prepared = _prepare(servers, options, fields)
    del servers, options, fields  # no traceback that prints local variables has a secret
    if isinstance(prepared, Exception):
        raise prepared
    return Connecting(*prepared)


class Connecting:
    """What `connect` returns; to be entered once."""

    def __init__(self, session: Session[Message], options: ConnectOptions) -> None:
        self._session = session
        self._options = options
        self._group: TaskGroup | None = None
        self._pump: Pump | None = None
        self._client: Client | None = None
        self._task_id = 0

    async def __aenter__(self) -> Client:
        if self._group is not None:
            raise LocalProtocolError("connect(...) was entered before: call it again for another client")
        dispatcher = Dispatcher(self._options.on_event, inbox_prefix=self._options.inbox_prefix)
        pump = self._pump = Pump(self._session, dispatcher)
        client = self._client = Client(self._session, pump, self._options)
        self._task_id = anyio.get_current_task().id
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        try:
            self._group.start_soon(pump.run, name="nats client")
            self._session.connect(now=pump.now())
            pump.settle()
            await pump.opened.wait()
        except BaseException:
            await self._leave()
            raise
        if pump.closed is not None and pump.closed.error is not None:
            await self._leave()
            raise pump.closed.error
        return client

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        assert self._group is not None  # entered, and so the others as well
        assert self._pump is not None
        assert self._client is not None
        try:
            await self._client.close()
        finally:
            self._pump.stop()
            if anyio.get_current_task().id == self._task_id:
                await self._close_group(self._group)
            else:
                # Some fixtures are entered by one task and left by another. The group cannot be left then; it has no
                # other child than the root, so waiting for that one is as good.
                with CancelScope(shield=True):
                    await self._pump.stopped.wait()

    async def _close_group(self, group: TaskGroup) -> None:
        group.cancel_scope.shield = True
        try:
            # The block's own exception is not shown to the group: it would come out wrapped.
            await group.__aexit__(None, None, None)
        except BaseExceptionGroup as failures:
            # A KeyboardInterrupt, or the like, that hit one of our tasks.
            failed = _leaves(failures)
            raise failed[0] if len(failed) == 1 else failures from None


def _prepare(
    servers: str | Iterable[str], options: object, fields: ConnectOptionFields
) -> tuple[Session[Message], ConnectOptions] | Exception:
    """The session and its options; or what is wrong with what was given, without the frames that hold it."""
    try:
        checked = read_options(options, fields)
        if checked.on_event is not None and (wrong := unusable_callback(checked.on_event, awaits=True)) is not None:
            return ConfigurationError(f"on_event: {wrong}")
        return Session(checked, servers, rng=random.SystemRandom(), message_type=Message), checked
    except Exception as error:
        return error.with_traceback(None)


def _leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, in groups in it, and so on; an exception that is no group is its only leaf."""
    members: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for member in members for leaf in _leaves(member)]
