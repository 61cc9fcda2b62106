"""A service with two endpoints, two instances of it, and a program that finds and asks them.

    python examples/services/two_endpoints.py nats://127.0.0.1:4222

Both instances are in one queue group, so that each request goes to one of them. What a request and an answer are is
said by types: a request that is none is answered with the code 400, and the handler is not called. `nats micro list` of
the NATS command line shows the service while it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec

import nats_sync
from nats_sync.services import Request, Service, ServiceError


class Order(msgspec.Struct):
    """What a shop asks for."""

    item: str
    count: int = 1


class Price(msgspec.Struct):
    """What it is told."""

    cents: int


PRICES = {"book": 1250, "pen": 199}


def serve(nc: nats_sync.Client) -> Service:
    """One instance. It goes on until it is stopped, or the client is closed."""
    service = nc.add_service("prices", "1.0.0", description="What things cost", metadata={"team": "shop"})
    v1 = service.group("prices.v1")

    @v1.endpoint("total", request_type=Order, response_type=Price, concurrency=4)
    def total(request: Request[Order]) -> Price:
        order = request.value
        if order.item not in PRICES:
            raise ServiceError(404, f"there is no {order.item}")
        return Price(PRICES[order.item] * order.count)

    @v1.endpoint("list", response_type=list[str])
    def names(request: Request[bytes]) -> list[str]:
        return sorted(PRICES)

    return service


def ask(nc: nats_sync.Client) -> Iterator[str]:
    """What a program sees that uses the service."""
    yield ", ".join(nc.request_service("prices.v1.list", response_type=list[str]))
    for order in (Order("book", 2), Order("car"), {"count": 2}):
        try:
            price = nc.request_service("prices.v1.total", order, response_type=Price)
        except ServiceError as error:
            yield str(error)
        else:
            yield f"{price.cents} cents"
    yield f"{len(list(nc.services('prices').ping()))} instances"
    requests = sum(one.num_requests for stats in nc.services("prices").stats() for one in stats.endpoints)
    yield f"{requests} requests"


def main(url: str) -> list[str]:
    """Serve, and ask."""
    with (
        nats_sync.connect(url, name="prices") as serving,
        nats_sync.connect(url, name="shop") as nc,
        ExitStack() as stack,
    ):
        for _ in range(2):
            stack.enter_context(serve(serving))
        serving.flush()
        return list(ask(nc))


if __name__ == "__main__":
    for line in main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"):
        print(line)
