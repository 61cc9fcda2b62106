"""`connect`: from servers and options to a client that is connected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from nats_proto import ConnectOptionFields, ConnectOptions, read_options
from nats_proto.errors import ConnectionClosedError

from ._client import Client, Message

if TYPE_CHECKING:
    import nats_proto
    from nats_proto import Session

__all__ = ["connect"]


def connect(
    servers: str | Iterable[str] = "nats://127.0.0.1:4222",
    *,
    options: ConnectOptions | None = None,
    **fields: Unpack[ConnectOptionFields],
) -> Client:
    """A connected client: ``with connect(...) as client``, or `Client.close` it.

    ``servers``: one URL, several, or a comma-separated string. The fields of `ConnectOptions` are given by name, or all
    together as ``options``. With ``retry_on_failed_connect`` the client may still be trying when it is returned.
    ``reconnect_delay`` is called by a thread of the client; it may use the client, but for what waits for a connection.

    Raises `InvalidURLError`, `ConfigurationError`, `TypeError` for a name that is no option; `NoServersError`, with
    what each server said, when none could be used. Nothing is left then.
    """
    # A program that only imports the package, to print its help, does not pay for what keeps a connection.
    from ._engine.assembly import assemble

    prepared = _prepare(servers, options, fields)
    del servers, options, fields  # from here on no traceback that prints local variables has a secret
    if isinstance(prepared, Exception):
        raise prepared
    session, checked = prepared
    engine = assemble(session, checked)
    hub = engine.hub
    client = Client(engine, checked)
    engine.start()
    try:
        hub.connect()
    except BaseException:
        client.close()
        raise
    if hub.closed is not None:
        engine.threads.join()
        raise hub.closed.error or ConnectionClosedError("connect: the client was closed meanwhile")
    return client


def _prepare(
    servers: str | Iterable[str], options: object, fields: ConnectOptionFields
) -> tuple[Session[nats_proto.Message], ConnectOptions] | Exception:
    """The session and its options; or what is wrong with what was given, without the frames that hold it."""
    import random

    from nats_proto import Session

    try:
        checked = read_options(options, fields, awaits=False)
        # For what runs the client a message is a message, whatever it can do for its user.
        session: Session[nats_proto.Message] = Session(
            checked, servers, rng=random.SystemRandom(), message_type=Message, two_transports=True
        )
        return session, checked
    except Exception as error:
        return error.with_traceback(None)
