"""INFO: what is taken, what is ignored, what cannot be used."""

from __future__ import annotations

import json

import pytest

from nats_proto import InfoFrame, Parser, Role, ServerInfo
from nats_proto._wire.info import parse_info
from nats_proto.errors import RemoteProtocolError

FIELDS = {
    "server_id": "NID",
    "server_name": "one",
    "version": "2.11.0",
    "git_commit": "abc",
    "go": "go1.24",
    "proto": 1,
    "host": "0.0.0.0",
    "port": 4222,
    "ip": "10.0.0.1",
    "headers": True,
    "auth_required": True,
    "tls_required": True,
    "tls_available": True,
    "tls_verify": True,
    "max_payload": 8388608,
    "client_id": 2**64 - 1,
    "client_ip": "::1",
    "nonce": "n0nce",
    "cluster": "c",
    "cluster_dynamic": True,
    "domain": "d",
    "connect_urls": ["a:1", "b:2"],
    "ldm": True,
    "jetstream": True,
    "api_lvl": 5,
    "connect_info": True,
    "remote_account": "A",
    "acc_is_sys": True,
}


def test_every_field() -> None:
    info = parse_info(json.dumps(FIELDS).encode())
    assert {name: getattr(info, name) for name in FIELDS} == FIELDS | {"connect_urls": ("a:1", "b:2")}
    assert set(FIELDS) == set(ServerInfo.__slots__)


def test_h11_missing_fields_have_defaults() -> None:
    assert parse_info(b"{}") == ServerInfo()
    assert ServerInfo().max_payload == 1024 * 1024
    assert parse_info(b'{"max_payload":5}') == ServerInfo(max_payload=5)


def test_the_nonce_is_not_shown() -> None:
    assert "n0nce" not in repr(ServerInfo(nonce="n0nce"))


IGNORED = [
    ("H9-unknown-any-type", b'{"x":1,"y":[null,{"a":"b"}],"xkey":"k","compression":5,"ws_connect_urls":3}'),
    ("H9-unknown-big-integer", b'{"x":' + b"9" * 10_000_000 + b"}"),
    ("H9-unknown-1e999", b'{"x":1e999,"y":-1e999}'),
    ("H9-unknown-bad-utf8", b'{"x":"\xff"}'),
    ("H9-blanks", b" \t{ } \t"),
    ("H9-null-urls", b'{"connect_urls":null}'),
    ("H9-empty-urls", b'{"connect_urls":[]}'),
]


@pytest.mark.parametrize("data", [data for _, data in IGNORED], ids=[row for row, _ in IGNORED])
def test_ignored(data: bytes) -> None:
    assert parse_info(data) == ServerInfo()


def test_h9_of_equal_keys_the_last_wins() -> None:
    assert parse_info(b'{"port":1,"port":2}').port == 2


UNUSABLE = [
    ("H7-no-json", b"nonsense", "malformed"),
    ("H7-empty", b"", "truncated"),
    ("H7-blank", b" ", "truncated"),
    ("H7-null", b"null", "Expected `object`"),
    ("H7-array", b"[]", "Expected `object`"),
    ("H7-number", b"5", "Expected `object`"),
    ("H7-text", b'"x"', "Expected `object`"),
    ("H7-cut", b'{"port":', "truncated"),
    ("H7-more", b"{} {}", "trailing"),
    ("H7-nul", b'{"host":"\x00"}', "malformed"),
    ("H8-deep", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
    ("H8-deep-objects", b'{"x":' * 100_000, "nested too deep"),
    ("H8-deep-in-urls", b'{"connect_urls":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
    ("H9-big-integer", b'{"max_payload":' + b"9" * 10_000_000 + b"}", "max_payload"),
    ("H9-4000-digits", b'{"max_payload":' + b"9" * 4000 + b"}", "max_payload is out of range"),
    ("H9-4000-digits-port", b'{"port":-' + b"9" * 4000 + b"}", "port is out of range"),
    ("H9-2^64-client-id", b'{"client_id":18446744073709551616}', "client_id is out of range"),
    ("H9-1e999", b'{"max_payload":1e999}', "max_payload"),
    ("H9-nan", b'{"max_payload":NaN}', "malformed"),
    ("H9-surrogate", b'{"server_name":"\\ud800"}', "INFO cannot be used"),
    ("H9-bad-utf8", b'{"server_name":"\xff"}', "not valid UTF-8"),
    ("H9-bom", b"\xef\xbb\xbf{}", "malformed"),
    ("H10-payload-text", b'{"max_payload":"a"}', "Expected `int`, got `str` - at `$.max_payload`"),
    ("H10-headers-text", b'{"headers":"no"}', "Expected `bool`, got `str` - at `$.headers`"),
    ("H10-headers-number", b'{"headers":1}', "$.headers"),
    ("H10-urls-number", b'{"connect_urls":5}', "$.connect_urls"),
    ("H10-urls-object", b'{"connect_urls":{}}', "$.connect_urls"),
    ("H10-id-null", b'{"server_id":null}', "$.server_id"),
    ("H10-port-bool", b'{"port":true}', "$.port"),
    ("H12-negative", b'{"max_payload":-2}', "max_payload must be 0 or more, or -1 for no limit, not -2"),
    ("H12-very-negative", b'{"max_payload":-18446744073709551615}', "or -1 for no limit"),
    ("H12-minus-2^64", b'{"max_payload":-18446744073709551616}', "max_payload is out of range"),
    ("H12-fraction", b'{"max_payload":1.5}', "$.max_payload"),
    ("H12-2^64", b'{"max_payload":18446744073709551616}', "max_payload is out of range"),
]


@pytest.mark.parametrize(("data", "reason"), [row[1:] for row in UNUSABLE], ids=[row[0] for row in UNUSABLE])
def test_unusable(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_info(data)
    text = str(caught.value)
    assert reason in text
    assert text.isprintable()
    assert len(text) <= 200
    if len(data) < 1024 * 1024 - 10:
        parser = Parser(Role.CLIENT)
        assert parser.receive_data(b"INFO " + data + b"\r\n") == [InfoFrame(None, text)]
        assert parser.error is None


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        pytest.param(-1, 999_999_999, id="no limit"),
        pytest.param(0, 0, id="empty messages only, as of an account"),
        pytest.param(1, 1, id="one byte"),
        pytest.param(999_999_999, 999_999_999, id="nine digits"),
        pytest.param(1_000_000_000, 999_999_999, id="ten digits"),
        pytest.param(2**63, 999_999_999, id="2^63"),
    ],
)
def test_h12_what_servers_say_of_their_limit(said: int, limit: int) -> None:
    info = parse_info(b'{"max_payload":%d}' % said)
    assert (info.max_payload, info.payload_limit) == (said, limit)


def test_h13_many_urls() -> None:
    urls = [f"10.0.{n // 256}.{n % 256}:4222" for n in range(40_000)]
    assert parse_info(json.dumps({"connect_urls": urls}).encode()).connect_urls == tuple(urls)


def test_h14_junk_urls_are_skipped_one_by_one() -> None:
    data = (
        b'{"connect_urls":["a:1",null,5,1e999,' + b"9" * 5000 + b',["x"],{"a":"b"},true,"\xff","","a b:99999",'
        b'"http://u:p@h","\\u0000","' + b"h" * 100_000 + b'"]}'
    )
    assert parse_info(data).connect_urls == ("a:1", "", "a b:99999", "http://u:p@h", "\x00", "h" * 100_000)
