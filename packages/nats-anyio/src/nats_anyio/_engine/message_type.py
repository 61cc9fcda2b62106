"""The class of the messages that a client gives to its users: the engine works with any."""

from __future__ import annotations

from typing import TypeVar

from nats_proto import Message

__all__ = ["MessageT"]

MessageT = TypeVar("MessageT", bound=Message)
