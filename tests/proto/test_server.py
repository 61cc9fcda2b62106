"""Server URLs: what is read, what is refused, and what nobody ever gets to see."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Iterable
from dataclasses import replace

import pytest

from nats_proto._secret import Secret
from nats_proto._servers.proxy import Proxy
from nats_proto._servers.server import MAX_URL, Server, parse_address, parse_servers, peer_of
from nats_proto.errors import ConfigurationError, InvalidURLError
from tests.proto.secrecy import assert_silent, error_of

READ = [
    # written                              shown                               host             port
    ("h", "nats://h:4222", "h", 4222),
    ("h:5", "nats://h:5", "h", 5),
    ("h:", "nats://h:4222", "h", 4222),
    ("h:65535", "nats://h:65535", "h", 65535),
    ("h/", "nats://h:4222", "h", 4222),
    ("nats://h", "nats://h:4222", "h", 4222),
    ("nats://h:4223/", "nats://h:4223", "h", 4223),
    ("nats://h/path", "nats://h:4222", "h", 4222),
    ("nats://h?x=1", "nats://h:4222", "h", 4222),
    ("tls://h", "tls://h:4222", "h", 4222),
    ("ws://h", "ws://h:80", "h", 80),
    ("wss://h", "wss://h:443", "h", 443),
    ("NATS://Example.COM", "nats://example.com:4222", "example.com", 4222),
    ("a-b.c_d.example.", "nats://a-b.c_d.example.:4222", "a-b.c_d.example.", 4222),
    ("xn--bcher-kva.example", "nats://xn--bcher-kva.example:4222", "xn--bcher-kva.example", 4222),
    ("127.0.0.1", "nats://127.0.0.1:4222", "127.0.0.1", 4222),
    ("[::1]", "nats://[::1]:4222", "::1", 4222),
    ("[::1]:", "nats://[::1]:4222", "::1", 4222),
    ("nats://[2001:DB8:0::1]:4223/", "nats://[2001:db8::1]:4223", "2001:db8::1", 4223),
    ("wss://[::1]/p", "wss://[::1]:443/p", "::1", 443),
    ("::1", "nats://[::1]:4222", "::1", 4222),
    ("nats://2001:db8::abcd", "nats://[2001:db8::abcd]:4222", "2001:db8::abcd", 4222),
    ("1:2:3:4:5:6:7:8", "nats://[1:2:3:4:5:6:7:8]:4222", "1:2:3:4:5:6:7:8", 4222),
    ("1:2:3:4:5:6:7:8:4223", "nats://[1:2:3:4:5:6:7:8]:4223", "1:2:3:4:5:6:7:8", 4223),
    ("::ffff:1.2.3.4", "nats://1.2.3.4:4222", "1.2.3.4", 4222),
    ("::ffff:1.2.3.4:4223", "nats://1.2.3.4:4223", "1.2.3.4", 4223),
    ("[::ffff:102:304]:5", "nats://1.2.3.4:5", "1.2.3.4", 5),
]


def in_clear(server: Server) -> tuple[str | None, str | None, str | None]:
    secrets = (server.user, server.password, server.token)
    user, password, token = (None if secret is None else secret.reveal() for secret in secrets)
    return user, password, token


@pytest.mark.parametrize(("written", "shown", "host", "port"), READ, ids=[row[0] for row in READ])
def test_a_url_is_read(written: str, shown: str, host: str, port: int) -> None:
    server = Server.parse(written)
    assert (str(server), server.url, server.address) == (shown, shown, (host, port))
    assert (server.user, server.password, server.token, server.tls_name) == (None, None, None, None)
    assert server.explicit
    assert Server.parse(str(server)) == server


@pytest.mark.parametrize(("scheme", "secure"), [("nats", False), ("tls", True), ("ws", False), ("wss", True)])
def test_a_scheme_says_whether_tls_is_wanted(scheme: str, secure: bool) -> None:
    assert Server.parse(f"{scheme}://h").secure is secure
    assert Server.parse("h", default_scheme=scheme) == Server.parse(f"{scheme}://h")


@pytest.mark.parametrize(
    ("written", "path", "query", "shown"),
    [
        ("ws://h/", "", None, "ws://h:80"),
        ("ws://h/a/b", "/a/b", None, "ws://h:80/a/b"),
        ("ws://h/a/", "/a/", None, "ws://h:80/a/"),
        ("wss://h:1/a?key=s3cret", "/a", "key=s3cret", "wss://h:1/a"),
        ("wss://h?key=s3cret", "/", "key=s3cret", "wss://h:443/"),
        ("ws://h/?key=s3cret?", "/", "key=s3cret?", "ws://h:80/"),
        ("ws://h/a?", "/a", None, "ws://h:80/a"),
        ("ws://h?", "", None, "ws://h:80"),
        ("tls://h/a?key=s3cret", "", None, "tls://h:4222"),
    ],
)
def test_the_path_is_kept_for_websocket_and_its_query_as_a_secret(
    written: str, path: str, query: str | None, shown: str
) -> None:
    server = Server.parse(written)
    assert (server.path, server.query, str(server)) == (path, None if query is None else Secret(query), shown)
    assert "s3cret" not in repr(server)


@pytest.mark.parametrize(
    ("user_info", "expected"),
    [
        ("", (None, None, None)),
        ("@", (None, None, None)),
        ("alice:pw@", ("alice", "pw", None)),
        ("alice:@", ("alice", "", None)),
        ("alice:p:w@", ("alice", "p:w", None)),
        ("t0ken@", (None, None, "t0ken")),
        ("al%40ice:p%2Fw%25@", ("al@ice", "p/w%", None)),
        ("al@ice:p@w@", ("al@ice", "p@w", None)),
        ("a%3Ab@", (None, None, "a:b")),
        ("%C3%A9:é@", ("é", "é", None)),
        ("a+b:c+d@", ("a+b", "c+d", None)),
    ],
)
@pytest.mark.parametrize("address", ["h", "h:4222", "[::1]:5", "::1"])
def test_user_information_is_percent_decoded(
    user_info: str, expected: tuple[str | None, str | None, str | None], address: str
) -> None:
    for prefix in ("", "nats://", "wss://"):
        server = Server.parse(prefix + user_info + address)
        assert in_clear(server) == expected
        assert server.address == Server.parse(prefix + address).address


REFUSED = [
    ("", "no host"),
    ("nats://", "no host"),
    ("nats://:4222", "no host"),
    ("user:pw@", "no host"),
    ("/", "no host"),
    ("http://h", "scheme"),
    ("://h", "scheme"),
    ("h:0", "port"),
    ("h:65536", "port"),
    ("h:-1", "port"),
    ("h:+1", "port"),
    ("h:1_0", "port"),
    ("h:000001", "port"),
    ("h:x", "port"),
    ("h:٤", "port"),
    ("[::1]:x", "port"),
    ("a b", "space"),
    (" h", "space"),
    ("h\r\nPUB", "control"),
    ("h\x00", "control"),
    ("h\x7f", "control"),
    ("h\x85", "control"),
    ("u:p\n@h", "control"),
    ("u\ud800@h", "control"),
    ("ws://h/a\tb", "control"),
    ("[::1", "brackets"),
    ("[::1]x", "brackets"),
    ("[::1]]", "brackets"),
    ("[]", "IPv6"),
    ("[h]", "IPv6"),
    ("[1.2.3.4]", "IPv6"),
    ("[::1%eth0]", "zone"),
    ("[" + "0" * 50 + "::1]", "IPv6"),
    ("::1:4222", "brackets"),
    ("2001:db8::1:2", "brackets"),
    ("::::", "colons"),
    ("a:b:c", "colons"),
    ("::1:99999", "colons"),
    ("1.2.3", "IPv4"),
    ("1.2.3.256", "IPv4"),
    ("1.2.3.4.", "IPv4"),
    ("01.2.3.4", "IPv4"),
    ("a.7", "IPv4"),
    ("7", "IPv4"),
    (".", "host"),
    ("a..b", "host"),
    (".a", "host"),
    ("-a", "host"),
    ("a-", "host"),
    ("a.-b", "host"),
    ("a" * 64, "host"),
    ("bücher.example", "host"),
    ("h\\x", "host"),
    ("h,i", "host"),
    ("*", "host"),
    ("a." * 127, "254 characters"),
    ("u:p%@h", "%25"),
    ("u:p%4@h", "%25"),
    ("u:%zz@h", "%25"),
    ("%ff@h", "UTF-8"),
    (":pw@h", "without a user"),
    (":@h", "without a user"),
    ("u:p/w@h", "%2F"),
    ("tok?en@h", "%2F"),
    ("to#ken@h", "%2F"),
    ("ws://tok/en@h", "%2F"),
    ("ws://h/#part", "fragment"),
    ("ws://h/é", "percent-encoded"),
    ("h" * (MAX_URL + 1), f"{MAX_URL + 1} characters"),
]


@pytest.mark.parametrize(("url", "reason"), REFUSED, ids=[ascii(row[0][:20]) for row in REFUSED])
def test_a_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(InvalidURLError) as raised:
        Server.parse(url)
    text = str(raised.value)
    assert reason in text.partition(" cannot be used: ")[2]
    assert len(text) < 300
    assert text.isprintable()


@pytest.mark.parametrize("size", [254, MAX_URL, 1024 * 1024])
def test_a_long_host_gives_a_short_error(size: int) -> None:
    for url in ("a" * size, f"nats://u:p@{'a' * size}:4222", "a." * (size // 2)):
        with pytest.raises(InvalidURLError) as raised:
            Server.parse(url)
        assert len(str(raised.value)) < 250


def test_the_longest_name_is_read() -> None:
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert Server.parse(name).host == name
    with pytest.raises(InvalidURLError):
        Server.parse(name + "b")


def test_the_default_scheme_is_checked() -> None:
    with pytest.raises(ConfigurationError, match="default_scheme"):
        Server.parse("h", default_scheme="http")


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("servers", "urls"),
    [
        ("", "nats://127.0.0.1:4222"),
        (" , ,", "nats://127.0.0.1:4222"),
        ([], "nats://127.0.0.1:4222"),
        ("a", "nats://a:4222"),
        ("a, b:4223 ,\tc,", "nats://a:4222 nats://b:4223 nats://c:4222"),
        (["a", "b,c"], "nats://a:4222 nats://b:4222 nats://c:4222"),
        (("nats://a", "tls://b", "c:1"), "tls://a:4222 tls://b:4222 tls://c:1"),
        ("ws://a,b", "ws://a:80 ws://b:80"),
        ("a,wss://b,ws://c,ws://d:80", "wss://a:443 wss://b:443 wss://c:443 wss://d:80"),
        ([Server.parse("nats://a"), "tls://b"], "tls://a:4222 tls://b:4222"),
        ([Server.parse("tls://a"), "b"], "tls://a:4222 tls://b:4222"),
        ([Server.parse("ws://a"), "b"], "ws://a:80 ws://b:80"),
        ([Server.parse("ws://a"), "wss://b"], "wss://a:80 wss://b:443"),
        ("a,TLS://b", "tls://a:4222 tls://b:4222"),
        ([Server.parse("nats://a")], "nats://a:4222"),
    ],
)
def test_a_list_is_read(servers: str | Iterable[str | Server], urls: str) -> None:
    assert " ".join(str(server) for server in parse_servers(servers)) == urls


def test_each_server_of_a_list_has_its_own_user_information() -> None:
    first, second, third = parse_servers("u:p@a, t@b, c")
    assert in_clear(first) == ("u", "p", None)
    assert in_clear(second) == (None, None, "t")
    assert in_clear(third) == (None, None, None)


def test_a_server_made_secure_keeps_what_else_it_has() -> None:
    plain = Server.parse("u:p@h:1")
    assert parse_servers([plain, "tls://x"])[0] == replace(plain, scheme="tls")


@pytest.mark.parametrize("servers", ["ws://a,nats://b", "tls://a, wss://b", [Server.parse("nats://a"), "ws://b"]])
def test_websocket_and_other_servers_are_not_mixed(servers: str | list[str | Server]) -> None:
    with pytest.raises(InvalidURLError, match="mix"):
        parse_servers(servers)


def test_one_bad_url_refuses_the_list() -> None:
    with pytest.raises(InvalidURLError, match=r"'b:0'"):
        parse_servers("a, b:0, c")
    with pytest.raises(InvalidURLError, match="scheme"):
        parse_servers("a, http://b")


@pytest.mark.parametrize("servers", [[1], [None], [b"h"], b"h", ["h", 4222]])
def test_only_texts_and_servers_are_taken(servers: list[str]) -> None:
    with pytest.raises(TypeError, match="a server must be a URL or a Server, not"):
        parse_servers(servers)


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "nats://S3CRET:S3CRET@h:99999",
        "S3CRET@h:0",
        "S3CRET:S3%2FCRET%@h",
        "S3CRET:%ff@h",
        "nats://user:S3CRET",
        "nats://user:S3CRET/",
        "nats://S3CRET:S3CRET/S3CRET@h",
        "ws://S3CRET?S3CRET@h",
        "S3CRET://S3CRET@h",
        "S3CRET\n@h",
        "S3CRET:S3CRET@" + "h" * 300,
        "x" * MAX_URL + ":S3CRET@h",
        "ws://h:0/?key=S3CRET",
        "ws://h/a#?S3CRET",
        "a, nats://u:S3CRET,S3CRET@h:0",
        "nats://S3CRET:1,S3CRET@h:0",
        "S3CRET,S3CRET@h:0",
        "a, S3CRET:x,S3CRET@h",
    ],
)
@pytest.mark.parametrize("read", [Server.parse, parse_servers])
def test_no_error_shows_a_secret(url: str, read: object) -> None:
    assert callable(read)
    with pytest.raises(InvalidURLError) as raised:
        read(url)
    error = raised.value
    assert "S3CRET" not in f"{error!s} {error!r}"
    ours = error.__traceback__.tb_next if error.__traceback__ else None  # the frames behind this test's own
    captured = traceback.TracebackException(type(error), error, ours, capture_locals=True)
    assert "S3CRET" not in "".join(line for line in captured.format())
    assert error.__cause__ is None
    assert error.__context__ is None


def test_a_server_shows_no_user_information() -> None:
    for server in (Server.parse("wss://us3r:passw0rd@h/p?k=qu3ry"), Server.parse("t0ken@h")):
        shown = f"{server} {server!r} {server.url} {[server]}"
        assert not any(secret in shown for secret in ("us3r", "passw0rd", "t0ken", "qu3ry"))
    assert repr(Server.parse("u:p@h")) == "Server('nats://h:4222')"
    assert repr(peer_of(Server.parse("u:p@h"), ("i", 1))) == "Server('nats://i:1', explicit=False)"


def test_a_server_is_copied_but_not_pickled() -> None:
    server = Server.parse("u:p@h")
    assert copy.copy(server) is copy.deepcopy(server) is server
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="password"):
            pickle.dumps(server, protocol)


def test_an_error_says_which_url_it_was() -> None:
    with pytest.raises(
        InvalidURLError, match=r"^server URL .broker\.example:99999. cannot be used: its port is not a number"
    ):
        Server.parse("nats://user:pw@broker.example:99999")


# --- what servers say of each other ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h:4222", ("h", 4222)),
        ("H.Example:1", ("h.example", 1)),
        ("10.0.0.1:4222", ("10.0.0.1", 4222)),
        ("[2001:DB8::1]:4222", ("2001:db8::1", 4222)),
        ("[::ffff:1.2.3.4]:4222", ("1.2.3.4", 4222)),
        ("", None),
        (":", None),
        (":4222", None),
        ("::::", None),
        ("h", None),
        ("null", None),
        ("h:", None),
        ("h:0", None),
        ("h:99999", None),
        ("a b:4222", None),
        ("a b:99999", None),
        ("a\x00b:4222", None),
        ("h\n:4222", None),
        ("h:4222\n", None),
        ("h:4222 ", None),
        ("[::1", None),
        ("[::1]", None),
        ("[]:4222", None),
        ("[:4222", None),
        ("]:4222", None),
        ("[h]:4222", None),
        ("[::1%1]:4222", None),
        ("::1:4222", None),
        ("1.2.3:4222", None),
        ("u@h:4222", None),
        ("u:p@h:4222", None),
        ("http://u:p@h", None),
        ("nats://h:4222", None),
        ("h:4222/", None),
        ("é:4222", None),
        ("h:٤٢", None),
        ("a" * 1024 * 1024 + ":4222", None),
        ("a:" + "4" * 1024 * 1024, None),
        ("[" + ":" * 1024 * 1024 + "]:4222", None),
    ],
    ids=lambda value: ascii(value[:20]) if isinstance(value, str) else None,
)
def test_an_address_from_info(text: str, address: tuple[str, int] | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("server", "host", "name"),
    [
        ("broker.example", "10.0.0.1", "broker.example"),
        ("broker.example", "::1", "broker.example"),
        ("broker.example", "other.example", None),
        ("10.0.0.2", "10.0.0.1", None),
        ("[::1]", "10.0.0.1", None),
    ],
)
def test_a_peer_behind_an_ip_address_must_prove_the_name(server: str, host: str, name: str | None) -> None:
    assert peer_of(Server.parse(server), (host, 4222)).tls_name == name


def test_a_peer_inherits_scheme_user_name_path_and_query() -> None:
    known = replace(Server.parse("wss://u:p@10.0.0.9/path?key=s3cret"), tls_name="broker.example")
    peer = peer_of(known, ("10.0.0.1", 443))
    assert peer == Server(
        scheme="wss",
        host="10.0.0.1",
        port=443,
        path="/path",
        query=Secret("key=s3cret"),
        user=Secret("u"),
        password=Secret("p"),
        explicit=False,
        tls_name="broker.example",
    )
    assert "s3cret" not in f"{peer} {peer!r}"
    assert peer_of(Server.parse("t@h"), ("i", 1)).token == Secret("t")


@pytest.mark.parametrize(
    "servers",
    [
        b"nats://me:s3cret-and-long@h",
        [b"nats://me:s3cret-and-long@h"],
        ["nats://me:s3cret-and-long@h", None],
        [["nats://me:s3cret-and-long@h"]],
        {"nats://me:s3cret-and-long@h x": 1},
        5,
    ],
    ids=ascii,
)
def test_what_is_no_list_of_servers_is_not_shown(servers: object) -> None:
    for make in (parse_servers, Server.parse, Proxy.parse):
        error = error_of(lambda make=make: make(servers))  # type: ignore[operator]
        assert isinstance(error, (TypeError, InvalidURLError))
        assert_silent(error, b"s3cret-and-long")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("nats://me:s3cret-and-long", "'nats://me:***'"),
        ("nats://me:s3cret-and-long:4222", "'nats://***'"),
        ("me:you:s3cret-and-long", "'***'"),
        ("nats://::1:4222", "'nats://::1:4222'"),
        ("nats://1:2:3:g", "'nats://1:2:3:***'"),
        ("nats://[::1", "'nats://[::1'"),
    ],
)
def test_user_information_whose_host_was_forgotten_is_not_shown(written: str, shown: str) -> None:
    error = error_of(lambda: Server.parse(written))
    assert shown in str(error)
    assert "s3cret" not in str(error)
