"""Hypothesis strategies for code that speaks NATS. Needs the extra ``nats-proto[testing]``.

Each value that is drawn is one that the encoder accepts, and its bytes are parsed to an equal value. Texts have
characters beyond ASCII, because subjects and header values may have them.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import assert_never

from hypothesis import strategies as st

from ._wire.encoder import OK, PING, PONG, Encoder
from ._wire.frames import (
    ConnectFrame,
    ErrFrame,
    Frame,
    InfoFrame,
    Message,
    OkFrame,
    PingFrame,
    PongFrame,
    PublishFrame,
    SubscribeFrame,
    UnsubscribeFrame,
)
from ._wire.headers import Headers, encode_header_block, encode_status_block
from ._wire.info import ServerInfo

__all__ = [
    "chunked",
    "client_frames",
    "encode_frame",
    "header_blocks",
    "header_names",
    "header_values",
    "headers",
    "messages",
    "payloads",
    "queue_names",
    "server_frames",
    "server_infos",
    "sids",
    "subjects",
    "subscription_subjects",
]

_ENCODER = Encoder(max_control_line=32 * 1024)

_TOKEN = st.text(
    st.characters(min_codepoint=0x21, exclude_characters=".*>\x7f", exclude_categories=["Cs"]), min_size=1, max_size=8
)
_TEXT = st.text(st.characters(min_codepoint=0x20, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
# Payloads that look like operations: a parser that lost count of the bytes would take them for some.
_PROTOCOL_TEXT = st.sampled_from([b"\r\n", b"\n", b"PING\r\n", b"MSG a 1 0\r\n\r\n", b"\x00", b"\xff\xfe", b"+OK\r\n"])


def subjects() -> st.SearchStrategy[str]:
    """Subjects to publish to: one to four tokens, no wildcards."""
    return st.lists(_TOKEN, min_size=1, max_size=4).map(".".join)


def subscription_subjects() -> st.SearchStrategy[str]:
    """Subjects to subscribe to: some tokens are ``*``, the last one may be ``>``."""
    body = st.lists(_TOKEN | st.just("*"), max_size=3)
    return st.tuples(body, _TOKEN | st.sampled_from("*>")).map(lambda parts: ".".join([*parts[0], parts[1]]))


def queue_names() -> st.SearchStrategy[str]:
    """Names of queue groups."""
    return _TOKEN


def sids() -> st.SearchStrategy[int]:
    """Subscription ids, small ones mostly."""
    return st.integers(1, 200) | st.integers(1, 2**63 - 1)


def payloads() -> st.SearchStrategy[bytes]:
    """Payloads: arbitrary bytes, and pieces of protocol text that a parser must not take for operations."""
    return st.binary(max_size=40) | st.lists(_PROTOCOL_TEXT | st.binary(max_size=8), max_size=4).map(b"".join)


def header_names() -> st.SearchStrategy[str]:
    """Header names: printable ASCII without blank and colon (ADR-4)."""
    return st.text(
        st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=":"), min_size=1, max_size=12
    )


def header_values() -> st.SearchStrategy[str]:
    """Header values that are received as they were sent: no control characters, no blanks at the ends."""
    return _TEXT.map(lambda text: text.strip(" "))


def headers(*, min_size: int = 0) -> st.SearchStrategy[Headers]:
    """Headers of ``min_size`` to six lines; names repeat now and then."""
    names = st.sampled_from(["A", "a", "Nats-Msg-Id"]) | header_names()
    return st.lists(st.tuples(names, header_values()), min_size=min_size, max_size=6).map(Headers)


def header_blocks() -> st.SearchStrategy[bytes]:
    """Header blocks as on the wire, with and without a status, never without any line."""
    plain = headers(min_size=1).map(lambda lines: encode_header_block(lines) or b"")
    return plain | st.builds(encode_status_block, st.integers(100, 999), header_values(), headers())


def messages() -> st.SearchStrategy[Message]:
    """Messages as a client receives them."""
    return st.builds(Message, subjects(), sids(), st.none() | subjects(), payloads(), st.none() | header_blocks())


def server_infos() -> st.SearchStrategy[ServerInfo]:
    """What a server may tell about itself."""
    return st.builds(
        ServerInfo,
        server_id=_TEXT,
        version=_TEXT,
        proto=st.integers(0, 1),
        host=_TEXT,
        port=st.integers(1, 65535),
        headers=st.booleans(),
        max_payload=st.integers(1, 2**63),
        client_id=st.integers(0, 2**64 - 1),
        nonce=_TEXT,
        connect_urls=st.lists(_TEXT, max_size=3).map(tuple),
        ldm=st.booleans(),
    )


def server_frames() -> st.SearchStrategy[Frame]:
    """What a server sends, as ``Parser(Role.CLIENT)`` gives it; `encode_frame` makes the bytes."""
    return st.one_of(
        messages(),
        st.builds(PingFrame),
        st.builds(PongFrame),
        st.builds(OkFrame),
        st.builds(ErrFrame, _TEXT.map(lambda text: text.strip(" '"))),
        st.builds(InfoFrame, server_infos()),
    )


def client_frames() -> st.SearchStrategy[Frame]:
    """What a client sends, as ``Parser(Role.SERVER)`` gives it; `encode_frame` makes the bytes."""
    blocks = headers(min_size=1).map(encode_header_block)
    return st.one_of(
        st.builds(PublishFrame, subjects(), st.none() | subjects(), st.none() | blocks, payloads()),
        st.builds(SubscribeFrame, subscription_subjects(), st.none() | queue_names(), sids()),
        st.builds(UnsubscribeFrame, sids(), st.none() | st.integers(1, 2**63 - 1)),
        st.builds(PingFrame),
        st.builds(PongFrame),
        st.builds(ConnectFrame, st.dictionaries(_TEXT, _JSON, max_size=3)),
    )


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame. Raises what the encoder raises when the frame cannot be sent."""
    match frame:
        case Message():
            return _ENCODER.message(frame.subject, frame.sid, frame.data, frame.reply, frame.header_block)
        case PublishFrame():
            published = _ENCODER.publish(frame.subject, frame.data, frame.reply, frame.headers)
            return published if isinstance(published, bytes) else b"".join(published)
        case SubscribeFrame():
            return _ENCODER.subscribe(frame.subject, frame.queue, frame.sid)
        case UnsubscribeFrame():
            return _ENCODER.unsubscribe(frame.sid, frame.max_msgs)
        case ConnectFrame():
            return _ENCODER.connect(frame.options)
        case InfoFrame():
            return _ENCODER.info({} if frame.info is None else asdict(frame.info))
        case ErrFrame():
            return _ENCODER.err(frame.message)
        case PingFrame():
            return PING
        case PongFrame():
            return PONG
        case OkFrame():
            return OK
        case _:
            assert_never(frame)


def chunked(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """``data`` cut at up to eight places, empty pieces among them; also byte by byte."""

    def cut(places: list[int]) -> list[bytes]:
        edges = [0, *sorted(places), len(data)]
        return [data[begin:end] for begin, end in pairwise(edges)]

    single = [data[at : at + 1] for at in range(len(data))]
    return st.lists(st.integers(0, len(data)), max_size=8).map(cut) | st.just(single)
