"""`open`: a client that stands alone, for where there is no block to hold it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

import anyio
from anyio.abc import TaskGroup

from nats_proto import ConnectOptionFields, ConnectOptions
from nats_proto.errors import LocalProtocolError

from ._client import Client, Message
from ._connect import begin, make_client, prepare
from ._engine.interrupt import Interrupt, the_one
from ._engine.limits import CLOSE_LIMIT

if TYPE_CHECKING:
    from nats_proto import Session

    from ._engine.hub import Hub

__all__ = ["open"]


async def open(  # noqa: A001  # a module's function is called by the module's name
    servers: str | Iterable[str] = "nats://127.0.0.1:4222",
    *,
    task_group: TaskGroup | None = None,
    options: ConnectOptions | None = None,
    **fields: Unpack[ConnectOptionFields],
) -> Client:
    """A connected client that lives until `Client.close` or `Client.drain`, called by any task of the event loop.

    On asyncio its tasks belong to the loop, and end with it at the latest. On trio a task belongs to another, so there
    ``task_group`` is needed, and may be given on asyncio too: the client's tasks are children of it, and when it is
    cancelled, the client is closed, which takes 2 s at most. A `SystemExit` that a callback raises ends the event loop,
    or the task group.

    ``servers`` and the rest are those of `connect`. Raises what `connect` and entering its block raise, nothing is left
    then; `LocalProtocolError` on trio without a task group.
    """
    prepared = prepare(servers, options, fields)
    del servers, options, fields  # no traceback that prints local variables has a secret
    if isinstance(prepared, Exception):
        raise prepared
    return await _open(*prepared, task_group)


async def _open(session: Session[Message], options: ConnectOptions, group: TaskGroup | None) -> Client:
    hub, client = make_client(session, options, alone=True)
    root = _Root(hub)
    if group is not None:
        group.start_soon(root.run, name="nats client")
    elif not hub.loop.start(root.run):
        raise LocalProtocolError(
            "on trio a client that stands alone needs a task group for its tasks: open(..., task_group=group), "
            "or use `async with connect(...)`"
        )
    try:
        await begin(session, hub)
    except BaseException:
        await client.close()
        with anyio.move_on_after(CLOSE_LIMIT, shield=True):
            await hub.gone.wait()  # then it is known why
        if root.interrupt is not None:
            raise root.interrupt from None
        raise
    root.opening = False
    return client


class _Root:
    """The task above all others of a client that stands alone, the client's root task among them."""

    def __init__(self, hub: Hub[Message]) -> None:
        self._hub = hub
        self.opening = True
        """Somebody waits in `open`, and raises `interrupt`."""
        self.interrupt: BaseException | None = None
        """What user code has raised to end the program, while somebody waited in `open`."""

    async def run(self) -> None:
        """Return when nothing of the client is left. When it is cancelled, the client is closed in order."""
        hub = self._hub
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(hub.run, name="nats root")
                try:
                    await hub.stopped.wait()
                finally:
                    # A cancelled group gets here before anybody has closed the client. `Hub.end` completes all the
                    # same, since it is shielded; so is the root of the tasks, which therefore has to be told to stop.
                    await hub.end()
                    hub.tasks.stop()
        except BaseExceptionGroup as failures:
            failed = the_one(failures)
            if not isinstance(failed, Interrupt):
                raise failed from None
            if self.opening:
                self.interrupt = failed.error
            else:
                hub.loop.raise_outside(failed.error)
        finally:
            hub.gone.set()
