"""Parser, encoder and server pool in memory, without any client around them."""

from __future__ import annotations

import nats_proto
from benchmarks import order, parse_rate, parser_linear, pool_rotation
from nats_proto import Encoder, Parser, Role

from .child import SUBJECT, Clock, Job, Result, main


def parse(job: Job) -> None:
    """In 64 KiB chunks, as a transport reads them; the stream is made beforehand."""
    make = parse_rate.STREAMS[job.case]
    stream = b"".join(make(number) for number in range(job.count))
    chunks = [stream[at : at + parse_rate.CHUNK] for at in range(0, len(stream), parse_rate.CHUNK)]
    parser = Parser(Role.CLIENT)
    seen = 0
    clock = Clock()
    for chunk in chunks:
        seen += len(parser.receive_data(chunk))
    job.report(**clock.stop(job.count), received=seen)


def encode(job: Job) -> None:
    """PUB, joined to 64 KiB pieces as they would be written."""
    encoder = Encoder()
    call = encoder.publish
    payloads = order.ring(job.size, job.count)
    operations: list[bytes] = []
    append = operations.append
    batch = max(1, parse_rate.CHUNK // (job.size + 32))
    nbytes = 0
    clock = Clock()
    for payload in payloads:
        append(call(SUBJECT, payload))  # type: ignore[arg-type]  # small ones are one piece
        if len(operations) == batch:
            nbytes += len(b"".join(operations))
            operations.clear()
    nbytes += len(b"".join(operations))
    timed = clock.stop(job.count)
    each = len(b"PUB %b %d\r\n\r\n" % (SUBJECT.encode(), job.size)) + job.size
    job.report(**timed, received=nbytes // each if nbytes % each == 0 else 0)


def byte_by_byte(job: Job) -> None:
    """One payload, one byte for each call: a parser that looks again at what it has would take longer for each."""
    clock = Clock()
    parser_linear.time_per_byte(b"MSG a 1 %d\r\n" % job.count, job.count, b"\r\n")
    job.report(**clock.stop(job.count), received=job.count)


def pool(job: Job) -> None:
    """The next server of so many, in the middle of an outage."""
    servers = pool_rotation.pool_of(job.size)
    clock = Clock()
    pool_rotation.seconds_per_step(servers, job.count)
    job.report(**clock.stop(job.count), received=job.count)


def about() -> Result:
    return {"version": nats_proto.__version__, "compiled": bool(getattr(nats_proto, "accelerated", False))}


if __name__ == "__main__":
    main({"parse": parse, "encode": encode, "byte_by_byte": byte_by_byte, "pool": pool}, about)
