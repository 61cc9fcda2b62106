"""Streams of both roles for the property tests: good ones, wounded ones, and bytes that are no protocol at all."""

from __future__ import annotations

from hypothesis import strategies as st

from nats_proto import Role
from nats_proto.testing import client_frames, encode_frame, server_frames

__all__ = ["FRAMES", "LIMITS", "PIECES", "good", "hostile", "wounded"]

FRAMES = {Role.CLIENT: server_frames(), Role.SERVER: client_frames()}
LIMITS = {"max_control_line": 100, "max_info": 400, "max_header_bytes": 60, "max_payload": 120}
"""Small, so that generated streams reach them."""

PIECES = st.sampled_from(
    [
        b"MSG ",
        b"HMSG ",
        b"PUB ",
        b"HPUB ",
        b"SUB ",
        b"UNSUB ",
        b"PING",
        b"PONG",
        b"+OK",
        b"-ERR ",
        b"INFO ",
        b"CONNECT ",
        b"msg\t",
        b"a",
        b"a.b",
        b"1",
        b"2",
        b"12",
        b"18",
        b"00",
        b"-1",
        b"999999999999",
        b" ",
        b"  ",
        b"\t",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"{}",
        b"[",
        b'{"max_payload":',
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        b"'",
        b"x" * 50,
        b"\x00",
        b"\xff",
        b"MSG a 1 1\r\nx\r\n",
        b"PUB a 1\r\nx\r\n",
        b"HMSG a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
    ]
)


def hostile() -> st.SearchStrategy[bytes]:
    """Bytes that are no protocol, almost protocol, and protocol with a wound."""
    pieces = st.lists(PIECES | st.binary(max_size=6), max_size=14).map(b"".join)
    return pieces | st.binary(max_size=80) | st.one_of(wounded(Role.CLIENT), wounded(Role.SERVER))


@st.composite
def wounded(draw: st.DrawFn, role: Role) -> bytes:
    """A good stream with a few bytes replaced, inserted or taken out."""
    stream = bytearray(draw(good(role)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(stream)))
        stream[at : at + draw(st.integers(0, 2))] = draw(PIECES | st.binary(max_size=2))
    return bytes(stream)


def good(role: Role) -> st.SearchStrategy[bytes]:
    return st.lists(FRAMES[role], max_size=5).map(lambda frames: b"".join(map(encode_frame, frames)))
