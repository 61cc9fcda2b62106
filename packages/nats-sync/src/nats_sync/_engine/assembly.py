"""Puts a client's parts together: each is complete when it is made, and knows only parts that were made before it.

hub ◀── writer, turns at reading ◀── manager ◀── threads
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from .exit import write_at_exit
from .hub import Hub
from .manager import Manager
from .perform import Performer
from .threads import Threads
from .turns import Turns
from .watcher import Watcher
from .writer import Writer

if TYPE_CHECKING:
    from nats_proto import ConnectOptions, Message, Session

__all__ = ["Engine", "assemble"]


class Engine(NamedTuple):
    """What runs a client, as far as the client uses it."""

    hub: Hub
    writer: Writer
    turns: Turns
    threads: Threads

    def start(self) -> None:
        """Start its threads. Raises `RuntimeError` when the system gives no more threads; none is left then."""
        try:
            self.threads.start()
        except RuntimeError:
            hub = self.hub
            hub.call(lambda: hub.session.close(now=monotonic()))
            hub.writing.end()
            self.turns.close()
            hub.agenda.wakeup.close()
            raise


def assemble(session: Session[Message], options: ConnectOptions) -> Engine:
    """Everything but the connection. Nothing runs yet."""
    name = f"nats-{options.name}" if options.name else "nats"
    hub = Hub(session, options, name)
    writer = Writer(hub)
    turns = Turns(hub)
    performer = Performer(hub, name)
    hub.callbacks.watcher = Watcher(hub, writer, turns)
    manager = Manager(hub, writer, turns, performer, name)
    threads = Threads(hub, writer, turns, manager, performer, options, name)
    write_at_exit(hub)
    return Engine(hub, writer, turns, threads)
