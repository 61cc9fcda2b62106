"""What the connection's manager has to do next, and what ends its sleep.

The hub writes it, under its lock; the manager reads it, in its own thread. Who adds something marks the agenda as
urgent, and the manager is woken when the lock has been released: woken within, it would only wait for the lock.
"""

from __future__ import annotations

from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING

from .wakeup import Wakeup

if TYPE_CHECKING:
    from nats_proto import Command, Message, SubscriptionState

__all__ = ["Agenda", "Defect"]


class Defect:
    """Something in this client raised what it must not, in a thread that is not ours: the manager ends the client."""

    __slots__ = ("raised",)

    def __init__(self, raised: Exception) -> None:
        self.raised = raised


class Agenda:
    """The manager's. What is not said to be for the manager is for the hub."""

    __slots__ = ("_manager", "abandoned", "commands", "deadline", "urgent", "wakeup")

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        """Ends the manager's sleep, whatever it waits for."""
        self.commands: deque[Command | Defect] = deque()
        """To be carried out in order."""
        self.deadline: float | None = None
        """When the session's time is up; the manager sees to it."""
        self.abandoned: deque[SubscriptionState[Message]] = deque()
        """Subscriptions that nobody can reach any more, to be unsubscribed by the manager."""
        self.urgent = False
        """The manager is to be woken by the next who has released the lock."""
        self._manager = 0
        """The identity of the manager's thread, which need not wake itself."""

    def add(self, command: Command) -> None:
        """Under the lock: the session wants this to be done."""
        self.commands.append(command)
        self.urgent = True

    def wake(self) -> None:
        """Not under the lock: the manager looks at everything."""
        self.urgent = False
        if get_ident() != self._manager:
            self.wakeup.set()

    def report(self, defect: Exception) -> None:
        """By a caller's thread, which can do nothing about it: the manager will end the client."""
        self.commands.append(Defect(defect))
        self.wakeup.set()

    def abandon(self, state: SubscriptionState[Message]) -> None:
        """By a finalizer, which may run in the midst of anything and so takes no lock."""
        self.abandoned.append(state)
        self.wakeup.set()

    # --- for the manager ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """By the manager's thread, once."""
        self._manager = get_ident()

    def take(self) -> list[Command | Defect]:
        """Under the lock: the commands, which leave the agenda."""
        commands = list(self.commands)
        self.commands.clear()
        return commands
