"""A pipeline: each order of one stream becomes one invoice in the next, whatever breaks in between.

    python examples/jetstream/exactly_once.py nats://127.0.0.1:4222

A stream delivers an order again when it is not acknowledged, so an order may be read twice. Therefore the invoice is
published with a message id that is made of the order's place in its stream, and is the same each time: the second
stream drops what it has. Only when the invoice is stored is the order acknowledged, and the acknowledgement is
confirmed. Wherever the program dies:

    before the invoice is stored        the order comes again, and the invoice is made then
    after it, before the order is       the order comes again, the invoice is published again and dropped as a duplicate
    acknowledged
    after that                          the order does not come again

Two conditions: the same order gives the same invoice, and a restart comes within ``duplicate_window`` of the crash.
What the program does elsewhere (a mail, a bank) may happen twice: only what is in streams is compared.

The program dies here after every third invoice, before the acknowledgement, and starts anew.
"""

from __future__ import annotations

import sys

import nats_sync
from nats_sync.jetstream import JetStream

ORDERS = 10


class Crash(Exception):
    """The program dies at this place."""


def create(js: JetStream) -> None:
    """Streams and the consumer."""
    orders = js.create_stream("ORDERS", subjects=["orders.>"])
    # How long a message id is known: longer than the program may be away. The server's default is two minutes.
    js.create_stream("INVOICES", subjects=["invoices.>"], duplicate_window=3600.0)
    # How long until an order comes again that a crashed program had: longer than one order takes.
    orders.create_consumer("billing", ack_wait=1.0)


def bill(js: JetStream, crash_at: int) -> int:
    """Make invoices until there is no order left: how many were there already."""
    consumer = js.consumer("ORDERS", "billing")
    duplicates = done = 0
    while (state := consumer.refresh()).num_pending or state.num_ack_pending:
        for order in consumer.fetch(10, timeout=2.0):
            place = order.metadata.stream_sequence
            ack = js.publish("invoices.new", b"invoice for " + order.data, msg_id=f"ORDERS-{place}")
            duplicates += ack.duplicate
            done += 1
            if done == crash_at:
                raise Crash(f"at order {place}, {duplicates} duplicates so far")
            order.ack_sync()
    return duplicates


def main(url: str) -> tuple[int, int]:
    """Run it to the end: how many invoices there are, and how often it has crashed."""
    crashes = 0
    with nats_sync.connect(url) as nc:
        js = nc.jetstream()
        create(js)
        for number in range(1, ORDERS + 1):
            js.publish("orders.new", b"book %d" % number, msg_id=f"order-{number}")
    while True:
        with nats_sync.connect(url) as nc:
            try:
                bill(nc.jetstream(), crash_at=3)
                return nc.jetstream().stream("INVOICES").refresh().state.messages, crashes
            except Crash as crash:
                print("crash", crash)
                crashes += 1


if __name__ == "__main__":
    invoices, crashes = main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222")
    print(f"{ORDERS} orders, {invoices} invoices, {crashes} crashes")
