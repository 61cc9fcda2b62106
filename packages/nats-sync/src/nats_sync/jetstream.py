"""JetStream: what `Client.jetstream` gives, and the values and errors of `nats_proto.jetstream`."""

from ._jetstream.batch import Batch
from ._jetstream.consumer import Consumer
from ._jetstream.context import JetStream
from ._jetstream.message import JetStreamMessage
from ._jetstream.messages import Messages
from ._jetstream.publisher import PendingAck, Publisher
from ._jetstream.stream import Stream

__all__ = ["Batch", "Consumer", "JetStream", "JetStreamMessage", "Messages", "PendingAck", "Publisher", "Stream"]
