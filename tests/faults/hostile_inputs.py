"""What a hostile or broken server may send, and what has to become of the session: one table for core and adapters.

Each row's bytes come at one of three moments: instead of the greeting, instead of the answer to CONNECT, or on an open
connection. A row either ENDS the connection with a typed error and the pool moves on, or it is survived: then the good
message and the PING behind it work as ever. A new finding is one more line here.

On the open connection there are three subscriptions: sid 1 on ``s.1``; sid 2, unsubscribed before; sid 3 with a maximum
of one message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from nats_proto import (
    AuthenticationFailed,
    ContentErrorReceived,
    LameDuckMode,
    LifecycleEvent,
    Message,
    ServerErrorReceived,
    ServersDiscovered,
    StatsSnapshot,
)
from nats_proto.errors import (
    AccountAuthenticationExpiredError,
    AuthenticationExpiredError,
    AuthorizationError,
    ConnectionLostError,
    MaxConnectionsError,
    MaxPayloadViolationError,
    MaxSubscriptionsError,
    NATSError,
    PermissionsError,
    RemoteProtocolError,
    ServerError,
    StaleConnectionError,
    ThrottledError,
)

__all__ = ["AFTER", "GOOD", "ROWS", "Moment", "Row", "greeting"]

GOOD: Final = b"MSG s.1 1 4\r\ngood\r\n"
AFTER: Final = GOOD + b"PING\r\n"
"""What follows every row on the same connection when it is survived, on the next one when it is not."""

MiB: Final = 1024 * 1024
Data = bytes | Callable[[], bytes]


class Moment(Enum):
    """When a row's bytes are sent."""

    GREETING = auto()  # as the first bytes of the connection
    ANSWER = auto()  # behind CONNECT and PING; a row that is survived has the PONG in it
    OPEN = auto()  # after the handshake


@dataclass(frozen=True, kw_only=True)
class Row:
    """One hostile input."""

    id: str
    moment: Moment
    data: Data
    eof: bool = False  # the peer closes its side behind the bytes
    ends: type[NATSError] | None = None  # None: survived
    text: str = ""  # stands in the error's text, or in that of the first report
    delivered: tuple[bytes, ...] | int = ()  # payloads, or how many, on sid 1 before the good message
    limited: tuple[bytes, ...] = ()  # payloads on sid 3
    reports: tuple[type[LifecycleEvent], ...] = ()  # events beside the life cycle's, in order; equal ones are one
    check_messages: Callable[[Sequence[Message]], None] | None = None  # those of sid 1, the good one left out
    check_events: Callable[[Sequence[LifecycleEvent]], None] | None = None  # those in `reports`
    check_stats: Callable[[StatsSnapshot], None] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    one_by_one: bool = False  # adapters: one byte per segment

    def bytes(self) -> bytes:
        """The input, built when it is needed: some are large."""
        return self.data() if callable(self.data) else self.data


def greeting(**fields: object) -> bytes:
    """A good INFO line."""
    usual = {"server_id": "NPEER", "version": "2.15.1", "proto": 1, "headers": True, "max_payload": MiB}
    return b"INFO " + json.dumps(usual | fields).encode() + b"\r\n"


ROWS: Final[list[Row]] = []


def row(name: str, moment: Moment, data: Data, **fields: Any) -> None:
    ROWS.append(Row(id=name, moment=moment, data=data, **fields))


def greets(name: str, data: Data, **fields: Any) -> None:
    row(name, Moment.GREETING, data, **fields)


def answers(name: str, data: Data, **fields: Any) -> None:
    row(name, Moment.ANSWER, data, **fields)


def sends(name: str, data: Data, **fields: Any) -> None:
    row(name, Moment.OPEN, data, **fields)


def breaks(name: str, data: Data, **fields: Any) -> None:
    row(name, Moment.OPEN, data, ends=RemoteProtocolError, **fields)


# --- the greeting ----------------------------------------------------------------------------------------------------

greets("H2-eof-at-once", b"", eof=True, ends=ConnectionLostError, text="during the handshake")
greets("H2-eof-in-info", b'INFO {"server_id":"NA', eof=True, ends=ConnectionLostError, text="during the handshake")

for name, first in {
    "ping": b"PING\r\n",
    "ok": b"+OK\r\n",
    "msg": b"MSG s.1 1 2\r\nhi\r\n",
    "hmsg": b"HMSG s.1 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
}.items():
    greets(f"H3-{name}", first, ends=RemoteProtocolError, text="INFO was expected")
greets("H22-pong-without-info", b"PONG\r\n", ends=RemoteProtocolError, text="INFO was expected")

for name, first in {
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "tls-alert": b"\x15\x03\x01\x00\x02\x02\x46\r\n",
    "smtp": b"220 mail.example.org ESMTP Postfix\r\n",
    "escape": b"\x1b[31mred\r\n",
}.items():
    greets(f"H4-{name}", first, ends=RemoteProtocolError, text="does not look like a NATS server")

INFO_16_MIB = b'INFO {"a":"%b"}\r\n'
greets("H5-info-of-16-mib", lambda: INFO_16_MIB % (b"x" * 16 * MiB), ends=RemoteProtocolError, text="max_info")
greets("H5-info-without-end", lambda: b"INFO {" + b" " * 2 * MiB, ends=RemoteProtocolError, text="max_info")

DIGITS = b"1" * 200_000
BAD_INFO: Final[dict[str, tuple[Data, str]]] = {
    "H7-no-json": (b"{nonsense", ""),
    "H7-empty": (b"", ""),
    "H7-null": (b"null", ""),
    "H7-array": (b"[]", ""),
    "H7-number": (b"17", ""),
    "H7-text": (b'"x"', ""),
    "H7-two-objects": (b"{} {}", ""),
    "H8-deep-unknown-field": (lambda: b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
    "H8-deep-from-the-start": (lambda: b"[" * 100_000, ""),
    "H8-deep-objects": (lambda: b'{"a":' * 100_000, "nested too deep"),
    "H9-long-integer": (b'{"port":' + DIGITS + b"}", "port"),
    "H9-1e999": (b'{"port":1e999}', "port"),
    "H9-nan": (b'{"port":NaN}', ""),
    "H9-unknown-nan": (b'{"new":NaN}', ""),
    "H9-infinity": (b'{"new":-Infinity}', ""),
    "H9-surrogate": (rb'{"server_id":"\ud800"}', ""),
    "H9-bad-utf8": (b'{"server_id":"\xff\xfe"}', "UTF-8"),
    "H9-bom": (b"\xef\xbb\xbf{}", ""),
    "H9-control-character": (b'{"server_id":"a\x01b"}', ""),
    "H10-max-payload-text": (b'{"max_payload":"a"}', "max_payload"),
    "H10-headers-text": (b'{"headers":"no"}', "headers"),
    "H10-connect-urls-number": (b'{"connect_urls":5}', "connect_urls"),
    "H10-proto-float": (b'{"proto":1.5}', "proto"),
    "H10-server-id-number": (b'{"server_id":7}', "server_id"),
    "H10-ldm-number": (b'{"ldm":1}', "ldm"),
    "H10-nonce-null": (b'{"nonce":null}', "nonce"),
    "H12-max-payload-negative": (b'{"max_payload":-2}', "max_payload"),
    "H12-max-payload-float": (b'{"max_payload":1.5}', "max_payload"),
}
"""JSON that a client cannot use: the end in a greeting, reported and ignored on an open connection."""


def info_line(json_text: Data) -> Data:
    if callable(json_text):
        return lambda: b"INFO " + json_text() + b"\r\n"
    return b"INFO " + json_text + b"\r\n"


for name, (json_text, why) in BAD_INFO.items():
    greets(name, info_line(json_text), ends=RemoteProtocolError, text=why)
    sends(f"H20-{name}", info_line(json_text), reports=(ContentErrorReceived,), text=why or "INFO")
    answers(f"H20-in-the-handshake-{name}", info_line(json_text), ends=RemoteProtocolError, text=why)
greets("H7-bare-word", b"INFO\r\n", ends=RemoteProtocolError)
INTEGER_10_MB = b'INFO {"port":%b}\r\n'
greets("H9-integer-of-10-mb", lambda: INTEGER_10_MB % (b"1" * 10_000_000), ends=RemoteProtocolError, text="max_info")
breaks("H20-integer-of-10-mb", lambda: INTEGER_10_MB % (b"1" * 10_000_000), text="max_info")

for name, json_text in {
    "H9-unknown-long-integer": b'{"new":' + DIGITS + b"}",
    "H9-unknown-1e999": b'{"new":1e999}',
    "H9-duplicate-keys": b'{"server_id":"a","server_id":"b"}',
    "H10-unknown-fields-of-any-type": b'{"new":[{"a":null}],"newer":"x","newest":{"b":[1.5,true]}}',
    "H11-nothing": b"{}",
    "H11-blanks": b"  {  }  ",
    "H11-max-payload-only": b'{"max_payload":1024}',
    "H12-max-payload-0": b'{"max_payload":0}',
    "H12-max-payload-no-limit": b'{"max_payload":-1}',
    "H12-max-payload-2-63": b'{"max_payload":9223372036854775808}',
}.items():
    greets(name, info_line(json_text))
    sends(f"H20-{name}", info_line(json_text))


def discovered(limit: int) -> Callable[[Sequence[LifecycleEvent]], None]:
    def check(events: Sequence[LifecycleEvent]) -> None:
        (event,) = events
        assert isinstance(event, ServersDiscovered)
        assert len(event.servers) == limit
        assert not any("@" in server or "secret" in server for server in event.servers)

    return check


MANY_SERVERS = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:4222" for n in range(40_000)]
JUNK_SERVERS = [
    "", " ", "::::", "a b:99999", "[::1", "http://u:secret@h", "u:secret@127.0.0.9:4222", "x" * 500_000, "h\x00:1",
    "h\r\nPUB a 0:1", "h:0", "h:65536", "h:-1", "h:1:2", "//", "nats://", "\u202e:1", "127.0.0.7:4222", "[::2]:4223",
]  # fmt: skip
JUNK_INFO = json.dumps({"connect_urls": JUNK_SERVERS}).encode()[:-2] + b',null,5,{"a":1}]}'

greets("H13-forty-thousand-servers", lambda: greeting(connect_urls=MANY_SERVERS), reports=())
sends(
    "H13-forty-thousand-servers-later",
    lambda: greeting(connect_urls=MANY_SERVERS),
    reports=(ServersDiscovered,),
    check_events=discovered(1000),
)
greets("H14-junk-servers", b"INFO " + JUNK_INFO + b"\r\n")


def only_good_servers(events: Sequence[LifecycleEvent]) -> None:
    (event,) = events
    assert isinstance(event, ServersDiscovered)
    assert {"nats://127.0.0.7:4222", "nats://[::2]:4223"} <= set(event.servers)
    for server in event.servers:
        assert "secret" not in server
        assert server.isprintable()
        assert len(server) < 300


sends(
    "H14-junk-servers-later",
    b"INFO " + JUNK_INFO + b"\r\n",
    reports=(ServersDiscovered,),
    check_events=only_good_servers,
)

greets("H18-second-info-before-connect", greeting(server_id="FIRST") + greeting(server_id="SECOND"))
greets("H18-lame-duck-greets", greeting(ldm=True), reports=(LameDuckMode,), options={"lame_duck_migration": False})
sends(
    "H19-info-flood",
    lambda: greeting() * 10_000 + greeting(connect_urls=["127.0.0.7:4222"]) * 10_000,
    reports=(ServersDiscovered,),
)
sends(
    "H19-lame-duck-flood",
    lambda: (greeting(ldm=True) + greeting()) * 2_000,
    reports=(LameDuckMode,),
    options={"lame_duck_migration": False},
)

# --- refusals --------------------------------------------------------------------------------------------------------

REFUSALS: Final[dict[str, tuple[bytes, type[NATSError]]]] = {
    "maximum-connections": (b"-ERR 'maximum connections exceeded'\r\n", MaxConnectionsError),
    "account-connections": (b"-ERR 'maximum account active connections exceeded'\r\n", MaxConnectionsError),
    "authorization": (b"-ERR 'Authorization Violation'\r\n", AuthorizationError),
    "expired": (b"-ERR 'User Authentication Expired'\r\n", AuthenticationExpiredError),
    "account-expired": (b"-ERR 'Account Authentication Expired'\r\n", AccountAuthenticationExpiredError),
    "throttling": (b"-ERR 'Connection throttling is active. Please try again later.'\r\n", ThrottledError),
    "unknown": (b"-ERR 'Not Today'\r\n", ServerError),
}


def not_dropped(events: Sequence[LifecycleEvent]) -> None:
    failures = [event for event in events if isinstance(event, AuthenticationFailed)]
    assert [failure.dropped for failure in failures] == [False]


for name, (refusal, error) in REFUSALS.items():
    greets(f"H21-before-info-{name}", refusal, ends=error)
    greets(f"H21-behind-info-{name}", greeting() + refusal, ends=error)
    answers(f"H21-instead-of-pong-{name}", refusal, ends=error)
for name, text, error in (
    ("authorization-lower", b"authorization violation", AuthorizationError),
    ("expired-upper", b"USER AUTHENTICATION EXPIRED  ", AuthenticationExpiredError),
):
    sends(
        f"H61-once-{name}",
        b"-ERR '%b'\r\n" % text,
        ends=error,
        reports=(ServerErrorReceived, AuthenticationFailed),
        check_events=not_dropped,
    )
for name, text, error in (
    ("stale", b"  STALE connection ", StaleConnectionError),
    ("connections", b"Maximum Connections EXCEEDED", MaxConnectionsError),
    ("payload", b"maximum payload violation  ", MaxPayloadViolationError),
    ("parser", b"Unknown Protocol Operation", ServerError),
):
    sends(f"H62-{name}", b"-ERR '%b'\r\n" % text, ends=error, reports=(ServerErrorReceived,))
    sends(f"H62-{name}-unquoted", b"-err \t %b\r\n" % text, ends=error, reports=(ServerErrorReceived,))

answers("H22-two-pongs", b"PONG\r\nPONG\r\n")
answers("H22-ok-then-pong", b"+OK\r\nPONG\r\n")
answers("H22-ping-then-pong", b"PING\r\nPONG\r\n")
answers("H22-info-then-pong", greeting(server_id="AGAIN") + b"PONG\r\n" + greeting(server_id="BEHIND"))
answers("H3-msg-instead-of-pong", b"MSG s.1 1 2\r\nhi\r\n", ends=RemoteProtocolError, text="PONG was expected")
answers("H2-eof-instead-of-pong", b"", eof=True, ends=ConnectionLostError, text="during the handshake")

# --- control lines ---------------------------------------------------------------------------------------------------

breaks("H23-line-without-end", lambda: b"MSG " + b"a" * 64 * MiB, text="max_control_line")
breaks("H24-line-without-end-per-byte", lambda: b"MSG " + b"a" * 33_000, text="max_control_line", one_by_one=True)

for name, line in {
    "verb": b"NOSUCH thing\r\n",
    "verb-prefix": b"PINGER\r\n",
    "verb-prefix-of-msg": b"MS s.1 1 2\r\nhi\r\n",
    "empty-line": b"\r\n",
    "bare-lf": b"\n",
    "nul": b"\x00\r\n",
    "many-nuls": b"\x00" * 100 + b"\r\n",
    "0x80": b"\x80\x81\r\n",
    "0xff": b"\xff\xff\xff\xff\r\n",
    "cut-by-cr": b"PI\rNG\r\n",
    "leading-blank": b" PING\r\n",
    "garbage": bytes(range(256)) + b"\r\n",
}.items():
    breaks(f"H25-{name}", line)

sends("H26-bare-lf", b"PING\n+OK\nMSG s.1 1 2\nhi\r\n", delivered=(b"hi",))
breaks("H26-bare-cr", b"MSG s.1 1\r 2\r\nhi\r\n", text="CR inside a line")
breaks("H26-bare-cr-ends-ping", b"PING\rPING\r\n")
breaks("H26-lf-cr", b"PING\n\rPING\n\r")
sends("H27-tabs-and-blanks", b"MSG \t s.1\t 1   \t2 \t \r\nhi\r\n", delivered=(b"hi",))
sends("H27-lower-case", b"msg s.1 1 2\r\nhi\r\nping\r\npOnG\r\n+ok\r\n", delivered=(b"hi",))
sends(
    "H27-lower-case-headers",
    b"hMsG s.1 1 12 14 \r\nNATS/1.0\r\n\r\nhi\r\n",
    delivered=(b"hi",),
)

for name, line in {
    "msg-0": b"MSG\r\n",
    "msg-1": b"MSG s.1\r\n",
    "msg-2": b"MSG s.1 2\r\nhi\r\n",
    "msg-5": b"MSG s.1 1 r x 2\r\nhi\r\n",
    "msg-6": b"MSG s.1 1 r x y 2\r\nhi\r\n",
    "hmsg-3": b"HMSG s.1 1 14\r\nNATS/1.0\r\n\r\nhi\r\n",
    "hmsg-6": b"HMSG s.1 1 r x 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
}.items():
    breaks(f"H28-{name}", line, text="arguments")

for name, size in {
    "H29-negative": b"-1",
    "H29-plus": b"+2",
    "H29-hex": b"0x2",
    "H29-underscore": b"1_0",
    "H29-float": b"2.0",
    "H29-exponent": b"1e3",
    "H29-nul": b"2\x00",
    "H30-arabic": "٢".encode(),
    "H30-full-width": "２".encode(),
    "H30-superscript": "²".encode(),
    "H31-twenty-digits": b"0" * 19 + b"2",
    "H32-2-31": str(2**31).encode(),
    "H32-2-32": str(2**32).encode(),
    "H32-2-32-plus-2": str(2**32 + 2).encode(),
    "H32-2-63": str(2**63).encode(),
    "H32-2-64": str(2**64).encode(),
    "H32-2-64-plus-2": str(2**64 + 2).encode(),
    "H32-4000-digits": b"9" * 4000,
    "H33-10-gib": str(10 * 1024 * MiB).encode(),
}.items():
    breaks(name, b"MSG s.1 1 %b\r\nhi\r\n" % size, delivered=())
breaks("H29-blank", b"MSG s.1 1  \r\nhi\r\n")
sends("H31-zero", b"MSG s.1 1 0\r\n\r\n", delivered=(b"",))
sends("H31-leading-zeros", b"MSG s.1 1 00000000002\r\nhi\r\n", delivered=(b"hi",))
sends("H31-nineteen-digits", b"MSG s.1 1 0000000000000000002\r\nhi\r\n", delivered=(b"hi",))
breaks("H35-over-the-limit", b"MSG s.1 1 4097\r\n", text="max_message_size", options={"max_message_size": 4096})
sends(
    "H35-at-the-limit",
    b"MSG s.1 1 4096\r\n" + b"x" * 4096 + b"\r\n",
    delivered=(b"x" * 4096,),
    options={"max_message_size": 4096},
)

for name, sid in {
    "text": b"abc",
    "negative": b"-1",
    "float": b"1.5",
    "2-64": str(2**64).encode(),
    "full-width": "１".encode(),
    "plus": b"+1",
}.items():
    breaks(f"H36-{name}", b"MSG s.1 %b 2\r\nhi\r\n" % sid, text="sid")
breaks("H36-empty", b"MSG s.1  2\r\nhi\r\n", text="arguments")


def unknown(count: int) -> Callable[[StatsSnapshot], None]:
    def check(stats: StatsSnapshot) -> None:
        assert stats.dropped_unknown_sid == count

    return check


sends("H37-unknown-sid", b"MSG s.1 4711 2\r\nhi\r\n", check_stats=unknown(1))
sends("H37-sid-0", b"MSG s.1 0 2\r\nhi\r\n", check_stats=unknown(1))
sends("H38-unknown-sid-flood", lambda: b"MSG s.1 4711 2\r\nhi\r\n" * 100_000, check_stats=unknown(100_000))
sends("H39-unsubscribed", b"MSG s.2 2 2\r\nhi\r\n", check_stats=unknown(1))
sends("H39-beyond-the-maximum", b"MSG s.3 3 2\r\nhi\r\n" * 3, limited=(b"hi",), check_stats=unknown(2))


def subject(expected: str) -> Callable[[Sequence[Message]], None]:
    def check(messages: Sequence[Message]) -> None:
        assert [message.subject for message in messages] == [expected]

    return check


LONG = "s." + "x" * 30_000
for name, text in {
    "other-subject": "not.what.was.asked",
    "wildcards": "a.*.>",
    "unicode-space": "a\u00a0b\u3000c\u2028d",
    "long": LONG,
    "dots": "..a..",
}.items():
    sends(f"H40-{name}", b"MSG %b 1 2\r\nhi\r\n" % text.encode(), delivered=(b"hi",), check_messages=subject(text))
sends("H40-nul", b"MSG a\x00b 1 2\r\nhi\r\n", delivered=(b"hi",), check_messages=subject("a\x00b"))
sends("H40-bad-utf8", b"MSG a\xffb 1 2\r\nhi\r\n", delivered=(b"hi",), check_messages=subject("a\udcffb"))
breaks("H41-cr-in-reply", b"MSG s.1 1 a\rb 2\r\nhi\r\n", text="CR inside a line")


def long_reply(messages: Sequence[Message]) -> None:
    assert [message.reply for message in messages] == [LONG]


sends("H41-long-reply", b"MSG s.1 1 %b 2\r\nhi\r\n" % LONG.encode(), delivered=(b"hi",), check_messages=long_reply)

# --- payloads --------------------------------------------------------------------------------------------------------

breaks("H42-longer-than-declared", b"MSG s.1 1 2\r\nhello\r\nMSG s.1 1 2\r\nhi\r\n")
breaks("H42-longer-by-a-line", b"MSG s.1 1 2\r\nhi there\r\nPING\r\n")
breaks("H43-no-crlf", b"MSG s.1 1 2\r\nhiXX")
breaks("H43-lf-alone", b"MSG s.1 1 2\r\nhi\n")
breaks("H43-cr-alone", b"MSG s.1 1 2\r\nhi\rX")
breaks("H43-headers-no-crlf", b"HMSG s.1 1 12 14\r\nNATS/1.0\r\n\r\nhiXX")
TRICKY = b"MSG s.1 1 2\r\nno\r\n-ERR 'Authorization Violation'\r\nPONG\r\n\x00\xff\r\n\r\nINFO {}\r\n"
sends("H44-protocol-inside", b"MSG s.1 1 %d\r\n%b\r\n" % (len(TRICKY), TRICKY), delivered=(TRICKY,))
sends("H44-every-byte", b"MSG s.1 1 256\r\n" + bytes(range(256)) + b"\r\n", delivered=(bytes(range(256)),))
for name, part in {
    "payload": b"MSG s.1 1 20\r\nnot all of it",
    "before-crlf": b"MSG s.1 1 2\r\nhi",
    "crlf": b"MSG s.1 1 2\r\nhi\r",
    "line": b"MSG s.1 1",
    "header-block": b"HMSG s.1 1 20 22\r\nNATS/1.0\r\nA: ",
    "header-line": b"HMSG s.1 1 20 22\r\n",
}.items():
    sends(f"H45-eof-in-{name}", part, eof=True, ends=ConnectionLostError)
sends("H46-cut-before-info", b"HMSG s.1 1 500 5000\r\n", eof=True, ends=ConnectionLostError)

# --- headers ---------------------------------------------------------------------------------------------------------

for name, sizes in {
    "over-total": b"15 14",
    "negative": b"-1 14",
    "text": b"x 14",
    "negative-total": b"12 -1",
}.items():
    breaks(f"H47-{name}", b"HMSG s.1 1 %b\r\nNATS/1.0\r\n\r\nhi\r\n" % sizes)


def with_block(block: bytes, payload: bytes = b"hi") -> bytes:
    return b"HMSG s.1 1 %d %d\r\n%b%b\r\n" % (len(block), len(block) + len(payload), block, payload)


def headers(expected: list[tuple[str, str]], *, error: bool) -> Callable[[Sequence[Message]], None]:
    def check(messages: Sequence[Message]) -> None:
        (message,) = messages
        assert message.headers is not None
        assert list(message.headers.items()) == expected
        assert (message.header_error is not None) == error

    return check


for name, block in {
    "empty": b"",
    "one-byte": b"x",
    "eleven-bytes": b"NATS/1.0\r\n\r",
    "zeros": b"\0" * 12,
    "no-blank-line": b"NATS/1.0\r\nA: b\r\n",
    "no-version": b"A: b\r\nBcd: efg\r\n\r\n",
    "http": b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
    "version-2": b"NATS/2.0\r\nA: b\r\n\r\n",
    "version-1-0x": b"NATS/1.0x\r\nA: b\r\n\r\n",
    "lower-case": b"nats/1.0\r\nA: b\r\n\r\n",
}.items():
    sends(
        f"H48-{name}",
        with_block(block),
        delivered=(b"hi",),
        reports=(ContentErrorReceived,),
        check_messages=headers([], error=True),
        text="header block",
    )

for name, line in {
    "no-colon": b"no colon",
    "empty-name": b": value",
    "blank-in-name": b"a b: value",
    "control-in-value": b"Ctl: a\x01b",
    "nul-in-value": b"Ctl: a\x00b",
}.items():
    sends(
        f"H49-{name}",
        with_block(b"NATS/1.0\r\nFirst: 1\r\n" + line + b"\r\nLast: 2\r\n\r\n"),
        delivered=(b"hi",),
        check_messages=headers([("First", "1"), ("Last", "2")], error=True),
    )
sends(
    "H50-bad-utf8-value",
    with_block(b"NATS/1.0\r\nA: caf\xe9\r\nB: ok\r\n\r\n"),
    delivered=(b"hi",),
    check_messages=headers([("A", "caf\udce9"), ("B", "ok")], error=False),
)
sends(
    "H50-bad-utf8-name",
    with_block(b"NATS/1.0\r\nA\xff: 1\r\nB: ok\r\n\r\n"),
    delivered=(b"hi",),
    check_messages=headers([("A\udcff", "1"), ("B", "ok")], error=False),
)
for name, line in {
    "folded": b"A: 1\r\n B: smuggled",
    "lf": b"A: 1\r\nX: a\nB: smuggled",
    "cr": b"A: 1\r\nX: a\rB: smuggled",
}.items():
    sends(
        f"H51-{name}",
        with_block(b"NATS/1.0\r\n" + line + b"\r\nLast: 2\r\n\r\n"),
        delivered=(b"hi",),
        check_messages=headers([("A", "1"), ("Last", "2")], error=True),
    )


def many_headers(count: int) -> Callable[[Sequence[Message]], None]:
    def check(messages: Sequence[Message]) -> None:
        (message,) = messages
        assert message.headers is not None
        assert len(message.headers) == count
        assert message.header_error is None

    return check


sends(
    "H52-sixty-thousand-lines",
    lambda: with_block(b"NATS/1.0\r\n" + b"".join(b"%x:\r\n" % n for n in range(60_000)) + b"\r\n"),
    delivered=(b"hi",),
    check_messages=many_headers(60_000),
)
sends(
    "H52-long-value",
    lambda: with_block(b"NATS/1.0\r\nA: " + b"v" * MiB + b"\r\n\r\n"),
    delivered=(b"hi",),
    check_messages=many_headers(1),
)
sends(
    "H52-equal-names",
    lambda: with_block(b"NATS/1.0\r\n" + b"A: v\r\n" * 10_000 + b"\r\n"),
    delivered=(b"hi",),
    check_messages=many_headers(10_000),
)
sends(
    "H53-similar-names",
    lambda: with_block(b"NATS/1.0\r\n" + b"".join(b"%b%05d: v\r\n" % (b"a" * 50, n) for n in range(10_000)) + b"\r\n"),
    delivered=(b"hi",),
    check_messages=many_headers(10_000),
)


def status(code: int | None, text: str = "") -> Callable[[Sequence[Message]], None]:
    def check(messages: Sequence[Message]) -> None:
        (message,) = messages
        if code is None:
            assert message.status is None
        else:
            assert message.status is not None
            assert (message.status.code, message.status.description) == (code, text)

    return check


for name, line, check in (
    ("letters", b" abc", status(None)),
    ("negative", b" -1", status(None)),
    ("long", b" 99999999999999999999", status(None)),
    ("plain", b" 200", status(200)),
    ("text", b" 200 a b", status(200, "a b")),
):
    sends(f"H54-{name}", with_block(b"NATS/1.0%b\r\n\r\n" % line), delivered=(b"hi",), check_messages=check)
sends(
    "H54-long-text",
    lambda: with_block(b"NATS/1.0 200 " + b"t" * MiB + b"\r\n\r\n"),
    delivered=(b"hi",),
    check_messages=status(200, "t" * MiB),
)
sends("H55-503-with-payload", with_block(b"NATS/1.0 503\r\n\r\n"), delivered=(b"hi",), check_messages=status(503))
sends("H55-503-without-payload", with_block(b"NATS/1.0 503\r\n\r\n", b""), delivered=(b"",), check_messages=status(503))

# --- floods ----------------------------------------------------------------------------------------------------------

sends("H56-pings", lambda: b"PING\r\n" * 500_000)
sends("H57-pongs", b"PONG\r\n" * 1_000)
sends("H58-oks", lambda: b"+OK\r\n" * 500_000)


def counted(total: int) -> Callable[[Sequence[LifecycleEvent]], None]:
    def check(events: Sequence[LifecycleEvent]) -> None:
        errors = [event for event in events if isinstance(event, ServerErrorReceived)]
        assert sum(event.count for event in errors) == total
        assert all(isinstance(event.error, PermissionsError) for event in errors)

    return check


sends(
    "H59-permission-errors",
    lambda: b"-ERR 'Permissions Violation for Publish to \"a.b\"'\r\n" * 50_000,
    reports=(ServerErrorReceived,),
    check_events=counted(50_000),
)
sends(
    "H59-different-permission-errors",
    lambda: b"".join(b"-ERR 'Permissions Violation for Publish to \"a.%d\"'\r\n" % n for n in range(50_000)),
    reports=(ServerErrorReceived,),
    check_events=counted(50_000),
)


def printable(events: Sequence[LifecycleEvent]) -> None:
    for event in events:
        assert isinstance(event, ServerErrorReceived)
        assert str(event.error).isprintable()
        assert event.error.text.isprintable()
        assert len(event.error.text) <= 513


for name, text in {
    "no-text": b"",
    "no-text-blank": b" ",
    "no-quotes": b" Some New Error",
    "open-quote": b" 'Some New Error",
    "bad-utf8": b" 'caf\xe9'",
    "long": b" '" + b"x" * 30_000 + b"'",
    "escape": b" '\x1b[31mred\x07'",
    "nul": b" 'a\x00b'",
    "newlines": " 'a\u2028b\u0085c\u202ed'".encode(),
    "invalid-subject": b" 'Invalid Subject'",
    "invalid-publish-subject": b" 'Invalid Publish Subject'",
}.items():
    sends(f"H60-{name}", b"-ERR%b\r\n" % text, reports=(ServerErrorReceived,), check_events=printable)


def subscriptions_error(events: Sequence[LifecycleEvent]) -> None:
    (event,) = events
    assert isinstance(event, ServerErrorReceived)
    assert isinstance(event.error, MaxSubscriptionsError)


sends(
    "H60-maximum-subscriptions",
    b"-ERR 'maximum subscriptions exceeded'\r\n",
    reports=(ServerErrorReceived,),
    check_events=subscriptions_error,
)

for name, line in {
    "connect": b'CONNECT {"verbose":false}\r\n',
    "pub": b"PUB s.1 2\r\nhi\r\n",
    "hpub": b"HPUB s.1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
    "sub": b"SUB s.1 1\r\n",
    "unsub": b"UNSUB 1\r\n",
}.items():
    breaks(f"H64-echo-{name}", line, text="unknown operation")
