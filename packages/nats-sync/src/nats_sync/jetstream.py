"""JetStream: what `Client.jetstream` gives, and the values and errors of `nats_proto.jetstream`."""

from ._jetstream.consumer import Consumer
from ._jetstream.context import JetStream
from ._jetstream.stream import Stream

__all__ = ["Consumer", "JetStream", "Stream"]
