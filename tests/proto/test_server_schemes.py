"""Schemes that are misspelt are refused with what is meant; hosts that are called like a scheme are hosts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nats_proto._servers.proxy import Proxy
from nats_proto._servers.server import Server, parse_servers
from nats_proto.errors import InvalidURLError

SCHEMES = ["nats", "tls", "ws", "wss", "NATS", "Tls"]
HOSTS = ["host", "10.0.0.7", "[::1]", "host.example"]
MISSPELT: list[Callable[[str, str], str]] = [
    lambda scheme, host: f"{scheme}:/{host}",
    lambda scheme, host: f"{scheme}:/{host}:4222",
    lambda scheme, host: f"{scheme}//{host}",
    lambda scheme, host: f"{scheme}//{host}:4222",
    lambda scheme, host: f"{scheme}///{host}",
    lambda scheme, host: f"{scheme}/{host}",
    lambda scheme, host: f"{scheme}/{host}:4222",
    lambda scheme, host: f"{scheme}:{host}",
    lambda scheme, host: f"{scheme}:{host}:4222",
    lambda scheme, host: f"{scheme}:{host}/",
    lambda scheme, host: f"{scheme}:/user:pw@{host}",
    lambda scheme, host: f"{scheme}//user:pw@{host}:4222",
    lambda scheme, host: f"{scheme}/token@{host}",
]
TWICE: list[Callable[[str, str], str]] = [
    lambda scheme, host: f"nats://{scheme}://{host}",
    lambda scheme, host: f"tls://{scheme}:/{host}",
    lambda scheme, host: f"nats://{scheme}//{host}:4222",
    lambda scheme, host: f"ws://{scheme}://{host}/path",
    lambda scheme, host: f"nats://user:pw@{scheme}://{host}",
    lambda scheme, host: f"nats://{scheme}://user:pw@{host}",
]
EXAMPLES = [write(scheme, host) for write in MISSPELT for scheme in SCHEMES for host in HOSTS]
EXAMPLES_TWICE = [write(scheme, host) for write in TWICE for scheme in SCHEMES for host in HOSTS]
UNKNOWN = ["http:/host", "http//host", "https:/host:4222", "nat:/host", "natss//host", "host:/path", "//host", ":/host"]


def refusal(read: Callable[[str], object], url: str) -> str:
    with pytest.raises(InvalidURLError) as raised:
        read(url)
    assert "pw" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("url", EXAMPLES)
def test_a_misspelt_scheme_is_refused_with_what_is_meant(url: str) -> None:
    word = url.lower().partition(":")[0].partition("/")[0]
    meant = f"its scheme must be followed by ://; what is meant is {word}://host:port, or host:port"
    assert meant in refusal(Server.parse, url)
    for listed in (url, f"other, {url}", f"{url},other:4222", f"{word}://a, {url}"):
        assert meant in refusal(parse_servers, listed)


@pytest.mark.parametrize("url", EXAMPLES_TWICE)
def test_a_scheme_behind_the_scheme_is_refused(url: str) -> None:
    assert "it has a scheme behind its scheme" in refusal(Server.parse, url)
    assert "it has a scheme behind its scheme" in refusal(parse_servers, f"{url}, {url}")


@pytest.mark.parametrize("url", UNKNOWN)
def test_a_word_that_is_no_scheme_is_refused_like_one(url: str) -> None:
    assert "its scheme must be followed by ://" in refusal(Server.parse, url)


@pytest.mark.parametrize("url", ["nats:///host", "nats:////host", "nats://", "nats:", "://host", "nats:\\\\host"])
def test_other_slips_are_refused_or_plain(url: str) -> None:
    if url == "nats:":
        assert str(Server.parse(url)) == "nats://nats:4222"  # a host and no port
    else:
        refusal(Server.parse, url)


@pytest.mark.parametrize("word", ["nats", "tls", "ws", "wss", "http", "NATS"])
def test_a_host_may_be_called_like_a_scheme(word: str) -> None:
    host = word.lower()
    for written in (word, f"{word}:4222", f"{word}/", f"{word}:4222/", f"nats://{word}", f"nats://{word}:4222"):
        assert str(Server.parse(written)) == f"nats://{host}:4222"
        assert [str(server) for server in parse_servers(f"a, {written}")] == ["nats://a:4222", f"nats://{host}:4222"]
    assert str(Server.parse(f"{word}:1")) == f"nats://{host}:1"
    assert str(Server.parse(f"nats://{word}/path")) == f"nats://{host}:4222"
    assert str(Server.parse(f"ws://{word}/path")) == f"ws://{host}:80/path"
    assert str(Server.parse(f"ws://{word}:81/path//x")) == f"ws://{host}:81/path//x"
    assert str(Server.parse("ws://host//path")) == "ws://host:80//path"


@pytest.mark.parametrize("word", ["nats", "tls", "ws", "wss"])
def test_a_user_or_a_token_may_be_called_like_a_scheme(word: str) -> None:
    user = Server.parse(f"{word}:secret@host")
    assert user.user is not None
    assert user.password is not None
    assert (user.user.reveal(), user.password.reveal(), user.host) == (word, "secret", "host")
    token = Server.parse(f"{word}@host")
    assert token.token is not None
    assert (token.token.reveal(), token.host) == (word, "host")
    assert str(Server.parse(f"user:pw@{word}:4222")) == f"nats://{word}:4222"


@pytest.mark.parametrize(
    "url", ["http:/host", "http:/host:3128", "http//host", "http/host", "http:host", "http:host:1"]
)
def test_a_proxy_with_a_misspelt_scheme_is_refused_with_what_is_meant(url: str) -> None:
    text = refusal(Proxy.parse, url)
    assert "its scheme must be followed by ://; what is meant is http://host:port" in text
    assert text.startswith("proxy URL")
    assert "scheme behind its scheme" in refusal(Proxy.parse, "http://http://host")


def test_a_proxy_may_be_called_http() -> None:
    for written in ("http", "http:80", "http://http", "http://http:80", "http/"):
        assert str(Proxy.parse(written)) == "http://http:80"
