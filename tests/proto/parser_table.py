"""What the parser makes of which bytes: good streams and faults, for both roles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from nats_proto import (
    ConnectFrame,
    ErrFrame,
    Frame,
    InfoFrame,
    Message,
    OkFrame,
    PingFrame,
    PongFrame,
    PublishFrame,
    Role,
    ServerInfo,
    SubscribeFrame,
    UnsubscribeFrame,
)

__all__ = ["A1", "BLOCK", "GOOD", "PING", "ROWS", "Row", "msg"]

PING, PONG, OK = PingFrame(), PongFrame(), OkFrame()
KiB = 1024
MiB = 1024 * KiB
BLOCK = b"NATS/1.0\r\nA: 1\r\n\r\n"
ALL_BYTES = bytes(range(256))
PROTOCOL_TEXT = b"\r\nPING\r\nMSG a 1 1\r\nx\r\n\x00\xff"


@dataclass(frozen=True)
class Row:
    id: str
    stream: bytes
    frames: tuple[Frame, ...] = ()
    error: str | None = None  # stands in the fault's text
    limits: dict[str, Any] = field(default_factory=dict)


def msg(subject: str, sid: int, data: bytes, reply: str | None = None, block: bytes | None = None) -> Message:
    return Message(subject, sid, reply, data, block)


ANY_BLOCK = (
    b"",
    b"x",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"NATS/1.0",
    b"NATS/1.0\r\n",
    b"PING\r\nPING\r",
    b"\0" * 12,
    b"\xff" * 30,
)
A1 = msg("a", 1, b"x")
GOOD = b"MSG a 1 1\r\nx\r\n"

READ_BY_CLIENT = [
    # --- each operation ---
    Row("ping", b"PING\r\n", (PING,)),
    Row("pong", b"PONG\r\n", (PONG,)),
    Row("ok", b"+OK\r\n", (OK,)),
    Row("words-with-more", b"PING now\r\nPONG  \r\n+OK\tyes\r\n", (PING, PONG, OK)),
    Row("err", b"-ERR 'Unknown Protocol Operation'\r\n", (ErrFrame("Unknown Protocol Operation"),)),
    Row("info", b'INFO {"max_payload":7}\r\n', (InfoFrame(ServerInfo(max_payload=7)),)),
    Row("info-tab-and-blanks", b'INFO\t {"port":1} \r\n', (InfoFrame(ServerInfo(port=1)),)),
    Row("msg", b"MSG a.b 12 5\r\nhello\r\n", (msg("a.b", 12, b"hello"),)),
    Row("msg-reply", b"MSG a.b 12 _INBOX.1 5\r\nhello\r\n", (msg("a.b", 12, b"hello", "_INBOX.1"),)),
    Row("msg-reply-is-number", b"MSG a 1 7 1\r\nx\r\n", (msg("a", 1, b"x", "7"),)),
    Row("hmsg", b"HMSG a 1 18 23\r\n" + BLOCK + b"hello\r\n", (msg("a", 1, b"hello", None, BLOCK),)),
    Row("hmsg-reply", b"HMSG a 1 r 18 23\r\n" + BLOCK + b"hello\r\n", (msg("a", 1, b"hello", "r", BLOCK),)),
    Row("hmsg-reply-is-number", b"HMSG a 1 7 18 19\r\n" + BLOCK + b"x\r\n", (msg("a", 1, b"x", "7", BLOCK),)),
    Row("hmsg-empty-payload", b"HMSG a 1 18 18\r\n" + BLOCK + b"\r\n", (msg("a", 1, b"", None, BLOCK),)),
    Row("hmsg-smallest", b"HMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n", (msg("a", 1, b"", None, b"NATS/1.0\r\n\r\n"),)),
    Row("many", b"PING\r\n" + GOOD * 3 + b"+OK\r\n" + GOOD, (PING, A1, A1, A1, OK, A1)),
    # The fast path remembers the line before: these must not be taken for one another.
    Row(
        "line-memory",
        GOOD * 3 + b"MSG b 2 r 1\r\ny\r\n" + GOOD + b"MSG a 1 2\r\nxy\r\n" + GOOD + b"MSG a 11 1\r\nx\r\n" + GOOD,
        (A1, A1, A1, msg("b", 2, b"y", "r"), A1, msg("a", 1, b"xy"), A1, msg("a", 11, b"x"), A1),
    ),
    Row(
        "line-memory-equal-lengths",
        b"MSG abc 1 1\r\nx\r\n" * 3 + b"MSG b 2 r 1\r\ny\r\n" + b"MSG abc 1 1\r\nx\r\n" * 3,
        (*[msg("abc", 1, b"x")] * 3, msg("b", 2, b"y", "r"), *[msg("abc", 1, b"x")] * 3),
    ),
    Row("line-memory-cut-payload", GOOD + b"MSG a 1 1\r\n", (A1,)),
    # --- H26, H27: what the grammar leaves open ---
    Row(
        "H26-bare-lf", b"PING\nMSG a 1 1\nx\r\n-ERR 'e'\nINFO {}\n", (PING, A1, ErrFrame("e"), InfoFrame(ServerInfo()))
    ),
    Row("H26-bare-lf-hmsg", b"HMSG a 1 18 18\n" + BLOCK + b"\r\n", (msg("a", 1, b"", None, BLOCK),)),
    Row(
        "H27-lower-case", b"ping\r\nmsg A 1 1\r\nx\r\n+ok\r\n-err 'E'\r\n", (PING, msg("A", 1, b"x"), OK, ErrFrame("E"))
    ),
    Row(
        "H27-mixed-case",
        b"PiNg\r\npOnG\r\nInFo {}\r\nhMsG a 1 18 18\r\n" + BLOCK + b"\r\n",
        (PING, PONG, InfoFrame(ServerInfo()), msg("a", 1, b"", None, BLOCK)),
    ),
    Row("H27-tabs", b"MSG\ta\t1\tr\t1\r\nx\r\n", (msg("a", 1, b"x", "r"),)),
    Row("H27-blanks", b"MSG   a  1 \t r   1  \t\r\nx\r\n", (msg("a", 1, b"x", "r"),)),
    Row("H27-trailing", b"PING \r\nPONG\t\r\nMSG a 1 1 \r\nx\r\n", (PING, PONG, A1)),
    # --- H31, H36: numbers ---
    Row("H31-empty", b"MSG a 1 0\r\n\r\nPING\r\n", (msg("a", 1, b""), PING)),
    Row("H31-zeros", b"MSG a 01 00000000002\r\nxy\r\n", (msg("a", 1, b"xy"),)),
    Row("H31-19-digits", b"MSG a 1 0000000000000000002\r\nxy\r\n", (msg("a", 1, b"xy"),)),
    Row("H36-largest-sid", b"MSG a 9999999999999999999 0\r\n\r\n", (msg("a", 9999999999999999999, b""),)),
    Row("H36-sid-0", b"MSG a 0 0\r\n\r\n", (msg("a", 0, b""),)),
    Row("H37-any-sid", b"MSG a 4711 0\r\n\r\n", (msg("a", 4711, b""),)),
    # --- H40, H41: subjects are not judged here ---
    Row("H40-nul", b"MSG a\x00b 1 1\r\nx\r\n", (msg("a\x00b", 1, b"x"),)),
    Row("H40-other-controls", b"MSG a\x0b\x0c\x1cb 1 1\r\nx\r\n", (msg("a\x0b\x0c\x1cb", 1, b"x"),)),
    Row(
        "H40-unicode-blanks", "MSG a\u3000b\u2028c\x85d 1 1\r\nx\r\n".encode(), (msg("a\u3000b\u2028c\x85d", 1, b"x"),)
    ),
    Row("H40-wildcards", b"MSG a.>.* 1 1\r\nx\r\n", (msg("a.>.*", 1, b"x"),)),
    Row("H40-bad-utf8", b"MSG a\xff 1 r\xfe 1\r\nx\r\n", (msg("a\udcff", 1, b"x", "r\udcfe"),)),
    Row("H40-utf8", "MSG ä.€ 1 ö 1\r\nx\r\n".encode(), (msg("ä.€", 1, b"x", "ö"),)),
    Row("H40-30KiB", b"MSG %b 1 1\r\nx\r\n" % (b"s" * 30720), (msg("s" * 30720, 1, b"x"),)),
    Row("H41-30KiB-reply", b"MSG a 1 %b 1\r\nx\r\n" % (b"r" * 30720), (msg("a", 1, b"x", "r" * 30720),)),
    # --- H44, H45: payloads ---
    Row(
        "H44-protocol-text",
        b"MSG a 1 %d\r\n" % len(PROTOCOL_TEXT) + PROTOCOL_TEXT + b"\r\nPING\r\n",
        (msg("a", 1, PROTOCOL_TEXT), PING),
    ),
    Row("H44-all-bytes", b"MSG a 1 256\r\n" + ALL_BYTES + b"\r\n", (msg("a", 1, ALL_BYTES),)),
    Row("H44-crlf-payload", b"MSG a 1 2\r\n\r\n\r\nPING\r\n", (msg("a", 1, b"\r\n"), PING)),
    Row("H45-cut-payload", GOOD + b"MSG a 1 5\r\nhel", (A1,)),
    Row("H45-cut-crlf", GOOD + b"MSG a 1 5\r\nhello\r", (A1,)),
    Row("H45-cut-before-crlf", GOOD + b"MSG a 1 5\r\nhello", (A1,)),
    Row("H45-cut-block", GOOD + b"HMSG a 1 18 23\r\nNATS/1.0\r\nA:", (A1,)),
    Row("H45-cut-line", GOOD + b"MSG a 1 ", (A1,)),
    Row("empty-stream", b""),
    # --- H48, H55: what a header block says is not judged here ---
    Row("H48-bad-version", b"HMSG a 1 12 12\r\nHTTP/1.1\r\n\r\n\r\n", (msg("a", 1, b"", None, b"HTTP/1.1\r\n\r\n"),)),
    Row("H48-no-blank-line", b"HMSG a 1 12 12\r\nNATS/1.0xxxx\r\n", (msg("a", 1, b"", None, b"NATS/1.0xxxx"),)),
    Row("H55-503", b"HMSG a 1 16 17\r\nNATS/1.0 503\r\n\r\nx\r\n", (msg("a", 1, b"x", None, b"NATS/1.0 503\r\n\r\n"),)),
    # --- H58, H60 ---
    Row("H58-many-ok", b"+OK\r\n" * 300, (OK,) * 300),
    Row("H60-no-text", b"-ERR\r\n-ERR \r\n-ERR ''\r\n", (ErrFrame(""),) * 3),
    Row("H60-no-quotes", b"-ERR Stale Connection\r\n", (ErrFrame("Stale Connection"),)),
    Row("H60-open-quote", b"-ERR 'Stale Connection\r\n", (ErrFrame("Stale Connection"),)),
    Row("H60-blanks", b"-ERR   ' Stale Connection '\t \r\n", (ErrFrame("Stale Connection"),)),
    Row("H60-quotes-inside", b"-ERR 'for \"it's\"'\r\n", (ErrFrame('for "it\'s"'),)),
    Row("H60-bad-utf8", b"-ERR 'a\xffb'\r\n", (ErrFrame("a\udcffb"),)),
    Row("H60-controls", "-ERR '\x1b[2J\x00\x85\u2028'\r\n".encode(), (ErrFrame("\x1b[2J\x00\x85\u2028"),)),
    Row("H60-30KiB", b"-ERR '%b'\r\n" % (b"e" * 30720), (ErrFrame("e" * 30720),)),
    # --- limits, exactly reached ---
    Row("H34-payload-at-limit", b"MSG a 1 5\r\nhello\r\n", (msg("a", 1, b"hello"),), limits={"max_payload": 5}),
    Row("payload-limit-0", b"MSG a 1 0\r\n\r\n", (msg("a", 1, b""),), limits={"max_payload": 0}),
    Row("line-at-limit", b"MSG aaaaaaa 1 0\r\n\r\n", (msg("aaaaaaa", 1, b""),), limits={"max_control_line": 17}),
    Row("line-at-limit-strict", b"msg aaaaaaa 1 0\r\n\r\n", (msg("aaaaaaa", 1, b""),), limits={"max_control_line": 17}),
    Row("line-at-limit-lf", b"MSG aaaaaaaa 1 0\n\r\n", (msg("aaaaaaaa", 1, b""),), limits={"max_control_line": 17}),
    Row("words-in-small-lines", b"PING\r\n", (PING,), limits={"max_control_line": 6}),
    Row(
        "info-at-limit",
        b'INFO {"port":1}\r\n',
        (InfoFrame(ServerInfo(port=1)),),
        limits={"max_info": 17, "max_control_line": 1},
    ),
    Row(
        "info-over-control-line", b'INFO {"host":"%b"}\r\n' % (b"h" * 40000), (InfoFrame(ServerInfo(host="h" * 40000)),)
    ),
    Row(
        "header-at-limit",
        b"HMSG a 1 18 18\r\n" + BLOCK + b"\r\n",
        (msg("a", 1, b"", None, BLOCK),),
        limits={"max_header_bytes": 18},
    ),
    # Servers pass on any bytes as a header block, and so does this: it is for those who read the headers to complain.
    *(
        Row(
            f"H47-block-{len(block)}",
            b"HMSG a 1 %d %d\r\n%bxy\r\n" % (len(block), len(block) + 2, block) + GOOD,
            (msg("a", 1, b"xy", None, block), A1),
        )
        for block in ANY_BLOCK
    ),
    Row("H47-block-and-reply", b"HMSG a 1 r 1 1\r\n\r\r\n" + GOOD, (msg("a", 1, b"", "r", b"\r"), A1)),
    Row("H47-blocks-in-a-row", b"HMSG a 1 3 4\r\n\r\n\rx\r\n" * 8, (msg("a", 1, b"x", None, b"\r\n\r"),) * 8),
    Row(
        "headers-and-payload-at-limit",
        b"HMSG a 1 18 20\r\n" + BLOCK + b"xy\r\n",
        (msg("a", 1, b"xy", None, BLOCK),),
        limits={"max_payload": 20},
    ),
]

NOT_NATS = "this does not look like a NATS server"
CLIENT_FAULTS = [
    # --- H3, H4: not INFO first is the connection's business, not NATS at all is the parser's ---
    Row("H3-msg-first", GOOD + b"X\r\n", (A1,), "unknown operation b'X'"),
    Row("H4-http", b"HTTP/1.1 400 Bad Request\r\n", (), NOT_NATS + ": it began with b'HTTP/1.1 400 Bad Request'"),
    Row("H4-ssh", b"SSH-2.0-OpenSSH_9.6\r\n", (), NOT_NATS + ": it began with b'SSH-2.0-OpenSSH_9.6'"),
    Row("H4-smtp", b"220 mail.example.com ESMTP\r\n", (), NOT_NATS),
    Row("H4-tls-alert", b"\x15\x03\x03\x00\x02\x02\x28", (), "it began with b'\\x15', which is how TLS begins"),
    Row("H4-tls-handshake", b"\x16\x03\x01\x02\x00", (), "which is how TLS begins"),
    Row("H4-no-line-end", b"x" * 100, (), NOT_NATS + ": it began with " + repr(b"x" * 64)),
    Row("H4-62-bytes-are-shown", b"y" * 62 + b"\r\n", (), repr(b"y" * 62)),
    Row("H4-after-info", b"INFO {}\r\nHTTP/1.1\r\n", (InfoFrame(ServerInfo()),), "unknown operation b'HTTP/1.1'"),
    # --- H5, H23: lines without end ---
    Row(
        "H5-info-too-long",
        b"INFO {" + b" " * 40 + b"}\r\n",
        (),
        "line longer than 32 bytes (max_info): b'INFO {",
        {"max_info": 32},
    ),
    Row("H5-info-without-end", b"INFO " + b"x" * MiB, (), "line longer than 1048576 bytes (max_info)"),
    Row("H23-msg-without-end", b"MSG " + b"a" * 40000, (), "line longer than 32768 bytes (max_control_line)"),
    Row(
        "H23-one-over",
        GOOD + b"MSG aaaaaaaa 1 0\r\n\r\n",
        (A1,),
        "line longer than 17 bytes (max_control_line)",
        {"max_control_line": 17},
    ),
    Row(
        "H23-one-over-lf",
        GOOD + b"MSG aaaaaaaaa 1 0\n\r\n",
        (A1,),
        "line longer than 17 bytes",
        {"max_control_line": 17},
    ),
    Row(
        "H23-only-the-limit-is-shown",
        b"MSG aaaaaaa\r\n",
        (),
        "line longer than 8 bytes (max_control_line): b'MSG aaaa'",
        {"max_control_line": 8},
    ),
    Row("H5-lower-case", b"info {" + b" " * 40 + b"}\r\n", (), "(max_info)", {"max_info": 32}),
    Row(
        "H23-hmsg-one-over",
        b"HMSG a 1 18 18\r\n" + BLOCK + b"\r\n",
        (),
        "line longer than 15 bytes",
        {"max_control_line": 15},
    ),
    Row("H23-word-in-tiny-line", b"PING\r\n", (), "line longer than 5 bytes", {"max_control_line": 5}),
    # --- H25: no operation ---
    Row("H25-unknown", GOOD + b"RMSG a 1\r\n", (A1,), "unknown operation b'RMSG a 1'"),
    Row("H25-empty-line", GOOD + b"\r\n", (A1,), "unknown operation b''"),
    Row("H25-empty-line-lf", GOOD + b"\n", (A1,), "unknown operation b''"),
    Row("H25-nul", GOOD + b"\x00\x00", (A1,), "unknown operation b'\\x00'"),
    Row("H25-0x80", GOOD + b"\x80", (A1,), "unknown operation b'\\x80'"),
    Row("H25-0xff", GOOD + b"MS\xff", (A1,), "unknown operation b'MS\\xff'"),
    Row("H25-cut-by-cr", GOOD + b"PI\rNG\r\n", (A1,), "unknown operation b'PI'"),
    Row("H25-prefix", GOOD + b"PIN\r\n", (A1,), "unknown operation b'PIN'"),
    Row("H25-prefix-lf", GOOD + b"MS\n", (A1,), "unknown operation b'MS'"),
    Row("H25-longer", GOOD + b"PINGS\r\n", (A1,), "unknown operation b'PINGS'"),
    Row("H25-much-longer", GOOD + b"INFOINFOINFO {}\r\n", (A1,), "unknown operation b'INFOINFOINFO {}'"),
    Row("H25-no-separator", GOOD + b"-ERR'x'\r\n", (A1,), "unknown operation b\"-ERR'x'\""),
    Row("H25-blank-first", GOOD + b" PING\r\n", (A1,), "unknown operation b' PING'"),
    Row("H25-tab-first", GOOD + b"\tPING\r\n", (A1,), "unknown operation b'\\t'"),
    Row("H25-tab-after", GOOD + b"FOO\tbar\r\n", (A1,), "unknown operation b'FOO\\t'"),
    Row("H25-in-tiny-lines", b"FOOBAR\r\n", (), "it began with b'FOOBAR'", {"max_control_line": 2, "max_info": 2}),
    # --- H26: CR ---
    Row("H26-bare-cr", GOOD + b"PING\rPING\r\n", (A1,), "CR inside a line: b'PING\\rPING'"),
    Row("H26-two-cr", GOOD + b"PING\r\r\n", (A1,), "CR inside a line: b'PING\\r'"),
    Row("H26-lf-cr", GOOD + b"PING\n\r", (A1, PING), "unknown operation b''"),
    Row("H26-cr-in-subject", GOOD + b"MSG a\rb 1 1\r\nx\r\n", (A1,), "CR inside a line"),
    Row("H41-cr-in-reply", GOOD + b"MSG a 1 a\rb 1\r\nx\r\n", (A1,), "CR inside a line"),
    Row("H26-cr-in-info", b'INFO {\r"port":1}\r\n', (), "CR inside a line"),
    Row("H26-cr-in-err", b"-ERR 'a\rb'\r\n", (), "CR inside a line"),
    # --- H28: number of arguments ---
    *(
        Row(
            f"H28-{line.decode().replace(' ', '-')}",
            GOOD + line + b"\r\n",
            (A1,),
            f"takes {takes} arguments, not {given}",
        )
        for line, takes, given in (
            (b"MSG", "3 to 4", 0),
            (b"MSG a 1", "3 to 4", 2),
            (b"MSG a 1 r 1 1", "3 to 4", 5),
            (b"MSG a 1 r 1 1 1", "3 to 4", 6),
            (b"MSG a 1 r 1 1 1 1", "3 to 4", 7),
            (b"HMSG a 1 12", "4 to 5", 3),
            (b"HMSG a 1 r 12 12 12", "4 to 5", 6),
            (b"HMSG a 1 r 12 12 12 12", "4 to 5", 7),
        )
    ),
    # --- H29, H30, H31, H32: sizes ---
    *(
        Row(
            f"{row}-size-{number}",
            GOOD + b"MSG a 1 %b\r\n" % size,
            (A1,),
            f"MSG with a bad size (up to 19 decimal digits): {size[:64]!r}",
        )
        for number, (row, size) in enumerate(
            [
                ("H29", b"-1"),
                ("H29", b"+2"),
                ("H29", b"0x2"),
                ("H29", b"1_0"),
                ("H29", b"2.0"),
                ("H29", b"1e3"),
                ("H29", b"2\x0b"),
                ("H29", b"2\x0c"),
                ("H29", b"2\x00"),
                ("H29", "2\xa0".encode()),
                ("H29", b"'2'"),
                ("H30", "\u0662".encode()),
                ("H30", "\uff12".encode()),
                ("H30", "²".encode()),
                ("H30", "Ⅱ".encode()),
                ("H31", b"00000000000000000002"),
                ("H32", b"18446744073709551616"),
                ("H32", b"9" * 4000),
            ]
        )
    ),
    *(
        Row(
            f"H32-size-{size}",
            GOOD + b"MSG a 1 %d\r\n" % size,
            (A1,),
            f"message of {size} bytes, the limit is 67108864 (max_payload",
        )
        for size in (2**26 + 1, 2**31, 2**32, 2**63, 10 * 2**30)
    ),
    Row(
        "H35-one-over",
        GOOD + b"MSG a 1 6\r\nhello!\r\n",
        (A1,),
        "limit is 5 (max_payload, a client's max_message_size)",
        {"max_payload": 5},
    ),
    Row(
        "H35-headers-and-payload",
        b"HMSG a 1 18 20\r\n",
        (),
        "message of 20 bytes, the limit is 19",
        {"max_payload": 19},
    ),
    Row("H35-with-data", b"HMSG a 1 18 20\r\n" + BLOCK + b"xy\r\n", (), "the limit is 19", {"max_payload": 19}),
    Row("H31-20-digits-and-data", b"MSG a 1 00000000000000000002\r\nxy\r\n", (), "MSG with a bad size"),
    Row("H31-20-digits-hmsg", b"HMSG a 1 18 00000000000000000018\r\n" + BLOCK + b"\r\n", (), "HMSG with a bad size"),
    Row("H36-20-digits-and-data", b"MSG a 00000000000000000001 2\r\nxy\r\n", (), "MSG with a bad sid"),
    # --- H36: sids ---
    *(
        Row(
            f"H36-sid-{number}",
            GOOD + b"MSG a %b 1\r\nx\r\n" % sid,
            (A1,),
            f"MSG with a bad sid (up to 19 decimal digits): {sid!r}",
        )
        for number, sid in enumerate(
            [b"abc", b"-1", b"+1", b"1.5", b"1_0", b"18446744073709551616", "١".encode(), "１".encode()]
        )
    ),
    Row("H36-no-sid", GOOD + b"MSG a  1\r\nx\r\n", (A1,), "takes 3 to 4 arguments, not 2"),
    # --- H42, H43: after the payload ---
    Row(
        "H42-longer",
        GOOD + b"MSG a 1 5\r\nhello!\r\n",
        (A1,),
        "no CR LF after a payload of 5 bytes: b'!' in the place of CR",
    ),
    Row("H42-longer-by-line", GOOD * 2 + b"MSG a 1 1\r\nxPING\r\n", (A1, A1), "b'P' in the place of CR"),
    Row("H42-hmsg", b"HMSG a 1 18 18\r\n" + BLOCK + b"x\r\n", (), "no CR LF after a payload of 0 bytes: b'x'"),
    Row("H43-xx", GOOD + b"MSG a 1 5\r\nhelloXX", (A1,), "b'X' in the place of CR"),
    Row("H43-cr-x", GOOD + b"MSG a 1 5\r\nhello\rX", (A1,), "b'X' in the place of LF"),
    Row("H43-cr-cr-lf", GOOD + b"MSG a 1 5\r\nhello\r\r\n", (A1,), "b'\\r' in the place of LF"),
    Row("H43-bare-lf", GOOD + b"MSG a 1 5\r\nhello\nPING\r\n", (A1,), "b'\\n' in the place of CR"),
    Row("H43-shorter", GOOD + b"MSG a 1 9\r\nhello\r\nPING\r\n", (A1,), "b'N' in the place of CR"),
    # --- H47: header sizes ---
    *(
        Row(f"H47-header-{size.decode()}", GOOD + b"HMSG a 1 %b 23\r\n" % size, (A1,), "header size of")
        for size in (b"24", b"9999999999999999999")
    ),
    *(
        Row(f"H47-bad-{number}", GOOD + b"HMSG a 1 %b 23\r\n" % size, (A1,), "HMSG with a bad header size")
        for number, size in enumerate([b"-1", b"+12", b"x", "١٢".encode(), b"12.0", b"1" * 20])
    ),
    Row("H47-more-than-total", b"HMSG a 1 20 18\r\n" + BLOCK + b"\r\n", (), "header size of 20"),
    Row(
        "H47-over-limit-and-data", b"HMSG a 1 18 18\r\n" + BLOCK + b"\r\n", (), "limit is 17", {"max_header_bytes": 17}
    ),
    Row("H47-bad-total", GOOD + b"HMSG a 1 12 x\r\n", (A1,), "HMSG with a bad size"),
    Row(
        "H47-over-limit",
        b"HMSG a 1 18 18\r\n",
        (),
        "header block of 18 bytes, the limit is 17 (max_header_bytes)",
        {"max_header_bytes": 17},
    ),
    # --- H64: our own bytes echoed; what follows CONNECT are secrets ---
    Row(
        "H64-connect",
        b'INFO {}\r\nCONNECT {"pass":"s3cret"}\r\n',
        (InfoFrame(ServerInfo()),),
        "unknown operation b'CONNECT'",
    ),
    Row("H64-connect-first", b'CONNECT {"pass":"s3cret"}\r\n', (), NOT_NATS + ": it began with b'CONNECT'"),
    Row("H64-pub", GOOD + b"PUB a 1\r\nx\r\n", (A1,), "unknown operation b'PUB a 1'"),
    Row("H64-sub", GOOD + b"SUB a 1\r\n", (A1,), "unknown operation b'SUB a 1'"),
]

READ_BY_SERVER = [
    Row("ping-pong", b"PING\r\nPONG\r\nping\n", (PING, PONG, PING)),
    Row("connect", b'CONNECT {"verbose":false,"name":"\\u00e4"}\r\n', (ConnectFrame({"verbose": False, "name": "ä"}),)),
    Row("pub", b"PUB a.b 5\r\nhello\r\n", (PublishFrame("a.b", None, None, b"hello"),)),
    Row("pub-reply", b"PUB a.b r 5\r\nhello\r\n", (PublishFrame("a.b", "r", None, b"hello"),)),
    Row("pub-empty", b"PUB a 0\r\n\r\nPING\r\n", (PublishFrame("a", None, None, b""), PING)),
    Row("hpub", b"HPUB a 18 20\r\n" + BLOCK + b"xy\r\n", (PublishFrame("a", None, BLOCK, b"xy"),)),
    *(
        Row(
            f"hpub-block-{len(block)}",
            b"HPUB a %d %d\r\n%bxy\r\n" % (len(block), len(block) + 2, block),
            (PublishFrame("a", None, block, b"xy"),),
        )
        for block in ANY_BLOCK
    ),
    Row("hpub-reply", b"HPUB a r 18 18\r\n" + BLOCK + b"\r\n", (PublishFrame("a", "r", BLOCK, b""),)),
    Row("sub", b"SUB a.* 7\r\n", (SubscribeFrame("a.*", None, 7),)),
    Row("sub-queue", b"SUB a.> q 7\r\n", (SubscribeFrame("a.>", "q", 7),)),
    Row("unsub", b"UNSUB 7\r\nUNSUB 7 5\r\n", (UnsubscribeFrame(7, None), UnsubscribeFrame(7, 5))),
    Row(
        "lenient", b"sub\ta  1 \nPuB a\t1\r\nx\r\n", (SubscribeFrame("a", None, 1), PublishFrame("a", None, None, b"x"))
    ),
]
SERVER_FAULTS = [
    Row("http", b"GET / HTTP/1.1\r\n", (), "this does not look like a NATS client: it began with b'GET / HTTP/1.1'"),
    Row("tls", b"\x16\x03\x01", (), "which is how TLS begins"),
    Row("server-operation", b"PING\r\nMSG a 1 0\r\n\r\n", (PING,), "unknown operation b'MSG a 1 0'"),
    Row("info", b"PING\r\nINFO {}\r\n", (PING,), "unknown operation b'INFO {}'"),
    Row("ok", b"PING\r\n+OK\r\n", (PING,), "unknown operation b'+OK'"),
    Row("pub-no-size", b"PUB a\r\n", (), "PUB takes 2 to 3 arguments, not 1"),
    Row("pub-4", b"PUB a r 1 1\r\n", (), "PUB takes 2 to 3 arguments, not 4"),
    Row("pub-size", b"PUB a -1\r\n", (), "PUB with a bad size"),
    Row("pub-large", b"PUB a 11\r\n", (), "message of 11 bytes, the limit is 10 (max_payload", {"max_payload": 10}),
    Row("pub-no-crlf", b"PUB a 1\r\nxy\r\n", (), "b'y' in the place of CR"),
    Row("hpub-2", b"HPUB a 12\r\n", (), "HPUB takes 3 to 4 arguments, not 2"),
    Row("hpub-sizes", b"HPUB a 13 12\r\n", (), "HPUB with a header size of 13, which is more than the whole size, 12"),
    Row("hpub-large-header", b"HPUB a 18 18\r\n", (), "max_header_bytes", {"max_header_bytes": 12}),
    Row("sub-1", b"SUB a\r\n", (), "SUB takes 2 to 3 arguments, not 1"),
    Row("sub-sid", b"SUB a q x\r\n", (), "SUB with a bad sid"),
    Row("unsub-0", b"UNSUB\r\n", (), "UNSUB takes 1 to 2 arguments, not 0"),
    Row("unsub-sid", b"UNSUB x\r\n", (), "UNSUB with a bad sid"),
    Row("unsub-max", b"UNSUB 1 -1\r\n", (), "UNSUB with a bad maximum"),
    Row("connect-empty", b"CONNECT\r\n", (), "CONNECT cannot be used"),
    Row("connect-array", b"CONNECT []\r\n", (), "CONNECT cannot be used"),
    Row("connect-cut", b'CONNECT {"a":\r\n', (), "CONNECT cannot be used"),
    Row("connect-deep", b'CONNECT {"a":' + b"[" * 20000 + b"\r\n", (), "CONNECT is nested too deep"),
    Row("connect-bad-utf8", b'CONNECT {"a":"\xff"}\r\n', (), "CONNECT cannot be used"),
    Row(
        "connect-too-long",
        b'CONNECT {"pass":"s3cret"}\r\n',
        (),
        "(max_control_line): b'CONNECT'",
        {"max_control_line": 20},
    ),
    Row("connect-cr", b'CONNECT {"pass":"s3cret\r"}\r\n', (), "CR inside a line: b'CONNECT'"),
    Row("connect-longer-word", b'connected {"pass":"s3cret"}\r\n', (), "it began with b'connect'"),
]

ROWS: Final = [
    *((Role.CLIENT, row) for row in READ_BY_CLIENT + CLIENT_FAULTS),
    *((Role.SERVER, row) for row in READ_BY_SERVER + SERVER_FAULTS),
]
