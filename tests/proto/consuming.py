"""Messages and statuses as a server sends them to who reads a consumer."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nats_proto import Ask, Message, Publish, Subscribe, Want

SUBJECT = "$JS.API.CONSUMER.MSG.NEXT.S.C"
NOW = 1000.0

Unused = tuple[int, int]


def delivered(number: int = 1, *, data: bytes = b"x", block: bytes | None = None) -> Message:
    """A message of the stream: it has the subject that it was stored with."""
    return Message("orders.new", 1, f"$JS.ACK.S.C.1.{number}.{number}.1700000000000000000.0", data, block)


def status(reply: str | None, words: str, unused: Unused | None = None, data: bytes = b"") -> Message:
    """A status for the request with this reply subject. ``words``: code and description."""
    lines = [f"NATS/1.0 {words}"]
    if unused is not None:
        lines += [f"Nats-Pending-Messages: {unused[0]}", f"Nats-Pending-Bytes: {unused[1]}"]
    block = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
    assert reply is not None
    return Message(reply, 1, None, data, block)


def requests(wants: Iterable[Want]) -> list[tuple[str, dict[str, object]]]:
    """The requests for messages among the wants: reply subjects and bodies."""
    found: list[tuple[str, dict[str, object]]] = []
    for want in wants:
        if isinstance(want, Publish):
            assert want.subject == SUBJECT
            assert want.reply is not None
            found.append((want.reply, msgspec.json.decode(bytes(want.data), type=dict[str, object])))
    return found


def kinds(wants: Iterable[Want]) -> list[str]:
    """What kinds of wants there are, in order."""
    names = {Publish: "pull", Subscribe: "subscribe", Ask: "ask"}
    return [names[type(want)] for want in wants]


class Inboxes:
    """Gives inboxes ``in.1``, ``in.2``, ..."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self) -> str:
        self.given += 1
        return f"in.{self.given}"
