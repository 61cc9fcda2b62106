"""Server URLs: reading and writing agree, nothing but our own errors comes out, and no secret shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from nats_proto._secret import Secret
from nats_proto._servers.server import Server, parse_address, parse_servers
from nats_proto.errors import InvalidURLError

T = TypeVar("T")

TELLING = "QXZJKVWéß~!$;^"
"""Characters that no host below and no error text has: a piece with one of them is a leak, not a coincidence. A star
stands for what is not shown."""

SECRET = st.text(TELLING + "*&=@:/?#%,[] ", min_size=1, max_size=12)

NAMES = st.lists(st.text("abcdefgh0123456789", min_size=1, max_size=8), min_size=1, max_size=4).map(
    lambda labels: ".".join([*labels, "example"])
)
HOSTS = NAMES | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
PATHS = st.text("abc/.-_&=%20", max_size=10).map(lambda text: f"/x{text}")
QUERIES = st.text("abc/.-_?&=%20", min_size=1, max_size=10)


def in_clear(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def write(server: Server) -> str:
    """The whole URL, with user information and query."""
    if server.token is not None:
        user_info = f"{quote(server.token.reveal(), safe='')}@"
    elif server.user is not None:
        user_info = f"{quote(server.user.reveal(), safe='')}:{quote(in_clear(server.password) or '', safe='')}@"
    else:
        user_info = ""
    host = f"[{server.host}]" if ":" in server.host else server.host
    query = "" if server.query is None else f"?{server.query.reveal()}"
    return f"{server.scheme}://{user_info}{host}:{server.port}{server.path}{query}"


@st.composite
def servers(draw: st.DrawFn) -> Server:
    scheme = draw(st.sampled_from(["nats", "tls", "ws", "wss"]))
    kind = draw(st.sampled_from(["nobody", "user", "token"]))
    return Server(
        scheme=scheme,
        host=parse_servers(f"[{host}]" if ":" in (host := draw(HOSTS)) else host)[0].host,
        port=draw(st.integers(1, 65535)),
        path=(path := draw(st.just("") | PATHS) if scheme.startswith("ws") else ""),
        query=draw(st.none() | QUERIES.map(Secret)) if path else None,
        user=Secret(draw(SECRET)) if kind == "user" else None,
        password=Secret(draw(st.just("") | SECRET)) if kind == "user" else None,
        token=Secret(draw(SECRET)) if kind == "token" else None,
    )


def pieces(*secrets: str | None) -> set[str]:
    """Everything of three characters that is in the secrets, plain or encoded, and cannot come from elsewhere."""
    texts = [form for secret in secrets if secret for form in (secret, quote(secret, safe=""))]
    found = {text[i : i + 3] for text in texts for i in range(len(text) - 2)}
    return {piece for piece in found if set(piece) & set(TELLING)}


def pieces_of(server: Server) -> set[str]:
    return pieces(*map(in_clear, (server.user, server.password, server.token)))


def reading(read: Callable[[str], T], text: str) -> T | InvalidURLError:
    """What comes out, one way or the other. Any other exception fails the test."""
    try:
        return read(text)
    except InvalidURLError as error:
        return error


@given(servers())
def test_what_is_written_is_read_back(server: Server) -> None:
    assert Server.parse(write(server)) == server
    assert parse_servers(write(server)) == (server,)


@given(servers())
def test_the_shown_url_is_stable(server: Server) -> None:
    again = Server.parse(str(server))
    assert str(again) == str(server)
    assert (again.scheme, again.address) == (server.scheme, server.address)
    assert (again.user, again.password, again.token) == (None, None, None)


@given(st.lists(servers(), min_size=1, max_size=5), st.sampled_from([",", ", ", " ,\t", ",,"]))
def test_a_list_is_its_entries(listed: list[Server], separator: str) -> None:
    kinds = {server.scheme.startswith("ws") for server in listed}
    read = reading(parse_servers, separator.join(write(server) for server in listed))
    if isinstance(read, InvalidURLError):
        assert len(kinds) == 2
        assert "mix" in str(read)
    else:
        assert len(kinds) == 1
        assert [server.address for server in read] == [server.address for server in listed]
        assert {server.secure for server in read} == {any(server.secure for server in listed)}


@given(servers())
def test_nothing_shown_of_a_server_has_a_part_of_its_user_information(server: Server) -> None:
    shown = f"{server} {server!r} {server.url} {server.address}"
    assert not {piece for piece in pieces_of(server) if piece in shown}


BREAKS = [
    "nats://{}h:0",
    "{}h:99999",
    "{}h:x",
    "{}-",
    "{}h h",
    "{}[::1",
    "{}h/#",
    "http://{}h",
    "ws://{}h/\n",
    "{}",
    "{}a..b",
]


@given(servers(), st.sampled_from(BREAKS), st.booleans())
def test_no_error_has_a_part_of_the_user_information(server: Server, broken: str, in_a_list: bool) -> None:
    user_info, at, _ = write(server).partition("://")[2].rpartition("@")
    url = broken.format(user_info + at)
    error = reading(parse_servers, f"a, {url}, b") if in_a_list else reading(Server.parse, url)
    if isinstance(error, InvalidURLError):
        shown = f"{error} {error!r}"
        assert not {piece for piece in pieces_of(server) if piece in shown}
    else:
        assert in_a_list
        assert url == ""


@given(SECRET, SECRET, st.sampled_from(["nats://", "", "ws://", "x://"]))
def test_a_secret_that_was_not_encoded_does_not_show(user: str, password: str, scheme: str) -> None:
    url = f"{scheme}{user}:{password}@h"
    shown = repr(reading(Server.parse, url))
    if "," not in user + password:  # a comma ends an entry: what stands in front of it is an address like any other
        shown += repr(reading(parse_servers, url))
    assert not {piece for piece in pieces(user, password) if piece in shown}


ANY_URL = st.text() | st.text(":/@?#[]%,.-_ab1\x00 é", max_size=30) | st.from_regex(r"\A[a-z]{1,4}://\S{0,20}")


@given(ANY_URL)
@example("nats://[::1]:4222@")
@example("[::ffff:1.2.3.4")
@example("%")
@example("@" * 50)
def test_any_text_gives_a_server_or_our_error(text: str) -> None:
    server = reading(Server.parse, text)
    if isinstance(server, InvalidURLError):
        assert str(server).isprintable()
        assert len(str(server)) < 250
    else:
        assert 1 <= server.port <= 65535
        assert server.host.isascii()
        assert server.host == server.host.lower()
        assert server.url.isprintable()
        assert Server.parse(write(server)) == server


@given(ANY_URL)
def test_any_text_gives_servers_or_our_error(text: str) -> None:
    read = reading(parse_servers, text)
    if isinstance(read, InvalidURLError):
        assert str(read).isprintable()
        assert len(str(read)) < 250
    else:
        assert len(read) >= 1


@given(ANY_URL | st.text("ab.:[]0123456789@/%", max_size=20))
def test_any_text_in_info_is_an_address_or_skipped(text: str) -> None:
    address = parse_address(text)
    if address is not None:
        host, port = address
        assert Server.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}").address == address
        assert not set(text) & set("@/?#% ")


@given(HOSTS, st.integers(1, 65535))
def test_what_a_server_tells_is_read_like_what_a_user_writes(host: str, port: int) -> None:
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    assert parse_address(text) == Server.parse(text).address
