"""One trace through streams, by OpenTelemetry: who has published a message, who has handled it, and what came of that.

    pip install opentelemetry-sdk
    python examples/jetstream/tracing.py nats://127.0.0.1:4222

The hooks of a `JetStream` put the context of the trace into the headers of all that is published, so no call to publish
is wrapped. A handler is: what it does belongs to the span of its message, and what it publishes follows from it. A
message that is delivered once more has a span of its own, in the same trace, which links to the publish. Requests for
messages, acknowledgements and heart-beats have none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from threading import Event

from opentelemetry import trace
from opentelemetry.propagate import extract, inject

import nats_sync
from nats_sync.jetstream import Hooks, JetStreamMessage, Settlement

Handler = Callable[[JetStreamMessage], object]

tracer = trace.get_tracer("nats")


def publish(subject: str, headers: nats_sync.Headers | None) -> dict[str, list[str]]:
    """The hook that is called with all that is published: the headers with the context of the trace."""
    carrier = {} if headers is None else {name: headers.values(name) for name in headers}
    context: dict[str, str] = {}
    with tracer.start_as_current_span(f"publish {subject}", kind=trace.SpanKind.PRODUCER):
        inject(context)
    return carrier | {name: [value] for name, value in context.items()}


def settled(message: JetStreamMessage, how: Settlement) -> None:
    """The hook that is called with all that is acknowledged: in a handler the span is that of its message."""
    trace.get_current_span().add_event(how)


def traced(handler: Handler) -> Handler:
    """A handler whose messages have spans."""

    @wraps(handler)
    def handle(message: JetStreamMessage) -> object:
        context = extract({} if message.headers is None else dict(message.headers.items()))
        origin = trace.get_current_span(context).get_span_context()
        number = message.metadata.num_delivered
        with tracer.start_as_current_span(
            f"process {message.subject}",
            context,
            kind=trace.SpanKind.CONSUMER,
            links=[trace.Link(origin)] if number > 1 and origin.is_valid else [],
            attributes={"messaging.system": "nats", "messaging.delivery": number},
        ):
            return handler(message)

    return handle


def main(url: str) -> None:
    """An order, which is handled at its second delivery, and its invoice."""
    done = Event()
    with nats_sync.connect(url, name="tracing") as nc:
        js = nc.jetstream(hooks=Hooks(publish=publish, settled=settled))
        orders = js.create_stream("ORDERS", subjects=["orders"], storage="memory")
        js.create_stream("INVOICES", subjects=["invoices"], storage="memory")

        @traced
        def handle(message: JetStreamMessage) -> None:
            if message.metadata.num_delivered == 1:
                message.nak()
                return
            js.publish("invoices", b"invoice for " + message.data)
            message.ack()
            done.set()

        with orders.create_consumer("billing").work(handle):
            js.publish("orders", b"a book")
            done.wait(30.0)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222")
