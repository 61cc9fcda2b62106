"""Server addresses: what a user writes is read once, here, and is a `Server` from then on.

    written                                 read as
    host, host:4222, nats://host/           nats, host, 4222 (a path means nothing to nats and tls and is left out)
    tls://host                              TLS for every server of the list
    ws://host/path?x=1, wss://host          ports 80 and 443; path and query are kept, the query as a secret
    nats://user:p%40ss@host                 user and password, percent-decoded
    nats://secret@host                      a token
    [2001:db8::1]:4222, 2001:db8::1         IPv6; without brackets only where it cannot be read in two ways
    ::ffff:192.0.2.1                        192.0.2.1
    a, b:4223 ,c                            three servers
    nothing                                 nats://127.0.0.1:4222

The URL of an HTTP proxy, ``http://user:password@host:port``, is read by the same rules.

A URL may hold secrets, and people log errors. So no text that is made here shows more of a URL than what stands behind
its last ``@``. The functions that read user information say what is wrong without quoting it. And errors are raised
only where no local variable holds the URL any more, since some programs print tracebacks with local variables: the
functions that look at URLs return the error, and the public ones delete the URL before they raise it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NoReturn, TypeGuard

from msgspec import structs

from .._secret import Secret
from .._value import Value
from ..errors import ConfigurationError, InvalidURLError

__all__ = ["Server", "parse_address", "parse_servers", "peer_of", "read_proxy", "read_servers"]

MAX_URL: Final = 16 * 1024
"""Characters. Room for long tokens; beyond it nothing is looked at."""

MAX_HOST: Final = 253
"""Characters of a host name (RFC 1035)."""

DEFAULT_URL: Final = "nats://127.0.0.1:4222"

_PORTS: Final = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443}
_SECURED: Final = {"nats": "tls", "tls": "tls", "ws": "wss", "wss": "wss"}
_WEBSOCKET: Final = frozenset({"ws", "wss"})
_PROXY_PORT: Final = 80
_SCHEMES: Final = _PORTS.keys() | {"http", "https"}
"""Words that are hardly the name of a host when something like a path stands behind them: the scheme is misspelt."""

_Refusal = InvalidURLError | TypeError
"""What is wrong with a URL, returned by the functions that hold the URL, and raised by those that do not."""

_SHOWN: Final = 60
"""Characters of a bad URL that an error shows, counted after escaping."""


class Server(Value, frozen=True, kw_only=True):
    """One server's address, and the user information its URL had. Made by `Server.parse` and `parse_servers`.

    ``str`` and ``repr`` show neither user information nor a query. It cannot be pickled.
    """

    scheme: str
    """``nats``, ``tls``, ``ws`` or ``wss``."""
    host: str
    """A name in lower case, or an IP address; IPv6 without brackets."""
    port: int
    path: str = ""
    """Always empty for ``nats`` and ``tls``."""
    query: Secret | None = None
    """What stands behind ``?`` of ``ws`` and ``wss``: it may have a token."""
    user: Secret | None = None
    password: Secret | None = None
    token: Secret | None = None
    explicit: bool = True
    """The user named it; False: another server did, in INFO."""
    tls_name: str | None = None
    """The name to verify instead of ``host``: for an IP address learned from a server that was reached by name."""

    @classmethod
    def parse(cls, url: str, *, default_scheme: str = "nats") -> Server:
        """Read one URL; ``default_scheme`` is for a URL without one.

        Raises `InvalidURLError` when it cannot be used; the text has no user information.
        """
        if default_scheme not in _PORTS:
            raise ConfigurationError(f"default_scheme must be nats, tls, ws or wss: {default_scheme!r}")
        result = _read_or_explain(url, default_scheme)
        if isinstance(result, Server):
            return result
        del url
        raise result

    @property
    def url(self) -> str:
        """Without user information and query; IPv6 in brackets; the port always."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port: what to dial, and what makes two servers the same one."""
        return (self.host, self.port)

    @property
    def named(self) -> bool:
        """Its host is a name, which may stand for several servers, and not an IP address."""
        return not _is_ip(self.host)

    @property
    def secure(self) -> bool:
        """TLS is wanted."""
        return self.scheme == _SECURED[self.scheme]

    @property
    def websocket(self) -> bool:
        """It is reached over WebSocket."""
        return self.scheme in _WEBSOCKET

    def secured(self) -> Server:
        """The same server, with TLS wanted."""
        return self if self.secure else structs.replace(self, scheme=_SECURED[self.scheme])

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Server({self.url!r}{'' if self.explicit else ', explicit=False'})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Server is not pickled: it may hold a password")

    def __copy__(self) -> Server:
        return self

    def __deepcopy__(self, memo: object) -> Server:
        return self


def parse_servers(servers: str | Iterable[str | Server]) -> tuple[Server, ...]:
    """Read one URL, several, or comma-separated lists of them; nothing at all means ``nats://127.0.0.1:4222``.

    One ``tls`` or ``wss`` makes all of them secure, and a URL without a scheme gets that of the others. Raises
    `InvalidURLError` when a URL cannot be used or WebSocket servers stand beside others; the text has no user
    information. Raises `TypeError` for anything but texts and servers.
    """
    result = read_servers(servers)
    if isinstance(result, tuple):
        return result
    del servers
    raise result


def read_servers(servers: object) -> tuple[Server, ...] | _Refusal:
    """As `parse_servers`, but it returns the error: its caller deletes the URLs, and raises it then."""
    entries = _entries(servers)
    return entries if isinstance(entries, TypeError) else _read_list(entries)


def parse_address(text: str) -> tuple[str, int] | None:
    """Read ``host:port``, the form in which servers name each other in INFO; None for anything else.

    The port must be there, IPv6 must have brackets, and what looks like user information or a scheme is not taken.
    """
    # The last colon, since an IPv6 address in its brackets has colons of its own.
    host, colon, port = text.rpartition(":")
    if not colon:
        return None
    try:
        if host[:1] == "[" and host[-1] == "]":
            return _ipv6(host[1:-1]), _port(port)
        return _name(host), _port(port)
    except _Unusable:
        return None


def peer_of(server: Server, address: tuple[str, int]) -> Server:
    """The server at ``address``, of which ``server`` has told us. It is reached by the same scheme, user, path and
    query.

    The query may hold a token, as some gateways want it: it goes where user and password go. When the address is an IP
    address, the certificate must prove the name of ``server``, since certificates seldom name addresses.
    """
    host, port = address
    # `tls_name` comes first: the server that tells an IP address may itself have been reached by a learned one. Then
    # only its `tls_name` has the name that the certificate must prove.
    name = server.tls_name or (None if _is_ip(server.host) else server.host)
    return Server(
        scheme=server.scheme,
        host=host,
        port=port,
        path=server.path,
        query=server.query,
        user=server.user,
        password=server.password,
        token=server.token,
        explicit=False,
        tls_name=name if _is_ip(host) else None,
    )


def read_proxy(url: object) -> tuple[str, int, Secret | None] | InvalidURLError | TypeError:
    """Read the URL of an HTTP proxy: its host, its port, and ``user:password`` if the URL has them."""
    if not isinstance(url, str):
        return TypeError(f"a proxy URL must be str, not {type(url).__name__}")
    try:
        return _read_proxy(url)
    except _Unusable as reason:
        return InvalidURLError(f"proxy URL {_shown(url, False)} cannot be used: {reason}")


# --- lists -----------------------------------------------------------------------------------------------------------


def _entries(servers: object) -> tuple[str | Server, ...] | TypeError:
    entries: list[str | Server] = []
    for entry in servers if _is_iterable(servers) else (servers,):
        if isinstance(entry, str):
            # A comma always separates. In a password it has to be written %2C.
            entries += (piece for text in entry.split(",") if (piece := text.strip(" \t")))
        elif isinstance(entry, Server):
            entries.append(entry)
        else:
            return TypeError(f"a server must be a URL or a Server, not {type(entry).__name__}")
    return tuple(entries)


def _is_iterable(servers: object) -> TypeGuard[Iterable[object]]:
    # Iterated, bytes give numbers, and the error would name int where the user gave bytes.
    return isinstance(servers, Iterable) and not isinstance(servers, (str, bytes))


def _read_list(entries: tuple[str | Server, ...]) -> tuple[Server, ...] | _Refusal:
    # Unknown schemes are left out here, and refused when the URL that has one is read.
    schemes = {_written_scheme(entry) for entry in entries} & _PORTS.keys()
    websocket = schemes & _WEBSOCKET
    if websocket and schemes - _WEBSOCKET:
        return InvalidURLError("server URLs mix ws or wss with nats or tls; a client uses one kind")
    secure = bool(schemes & {"tls", "wss"})
    default_scheme = "ws" if websocket else "nats"
    user_info = any("@" in entry for entry in entries if isinstance(entry, str))
    servers: list[Server] = []
    for entry in entries or (DEFAULT_URL,):
        if isinstance(entry, Server):
            servers.append(entry.secured() if secure else entry)
            continue
        result = _read_or_explain(entry, default_scheme, secure=secure, list_has_user_info=user_info)
        if not isinstance(result, Server):
            return result
        servers.append(result)
    return tuple(servers)


def _written_scheme(entry: str | Server) -> str:
    if isinstance(entry, Server):
        return entry.scheme
    # A longer URL is refused later, so nothing behind that is searched.
    scheme, separator, _ = entry[:MAX_URL].partition("://")
    return scheme.lower() if separator else ""


# --- one URL ---------------------------------------------------------------------------------------------------------


class _Unusable(Exception):
    """Why a URL cannot be used, in words that quote nothing of the URL."""


def _read_or_explain(
    url: object, default_scheme: str, *, secure: bool = False, list_has_user_info: bool = False
) -> Server | _Refusal:
    if not isinstance(url, str):
        return TypeError(f"a server URL must be str, not {type(url).__name__}")
    try:
        return _read(url, default_scheme, secure)
    except _Unusable as reason:
        return InvalidURLError(f"server URL {_shown(url, list_has_user_info)} cannot be used: {reason}")


# Patterns are compiled when the first address is read, and remembered by `re`.
_JUNK: Final = "[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff]"
_END_OF_AUTHORITY: Final = "[/?#]"


def _read(url: str, default_scheme: str, secure: bool) -> Server:
    _check_characters(url)
    scheme, rest = _scheme(url, default_scheme)
    if secure:
        scheme = _SECURED[scheme]
    user_info, address, tail = _split(rest, written_scheme="://" in url)
    path, query = _path_and_query(scheme, tail)
    user, password, token = _user_info(user_info)
    host, port = _host_and_port(address, _PORTS[scheme])
    return Server(
        scheme=scheme, host=host, port=port, path=path, query=query, user=user, password=password, token=token
    )


def _read_proxy(url: str) -> tuple[str, int, Secret | None]:
    _check_characters(url)
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() == "https":
        raise _Unusable("TLS with the proxy itself is not supported; what goes through an http proxy may have TLS")
    if separator and scheme.lower() != "http":
        raise _Unusable("its scheme is not http")
    user_info, address, tail = _split(rest if separator else url, written_scheme=bool(separator))
    if tail not in ("", "/"):
        raise _Unusable("a proxy has neither path nor query")
    credentials: Secret | None = None
    if user_info:
        user, _, password = _decoded(user_info)
        if ":" in user:
            raise _Unusable("its user has a colon, which proxies cannot tell from the one before the password")
        credentials = Secret(f"{user}:{password}")
    return (*_host_and_port(address, _PROXY_PORT), credentials)


def _check_characters(url: str) -> None:
    if len(url) > MAX_URL:
        raise _Unusable(f"it has {len(url)} characters, {MAX_URL} at most are looked at")
    if re.search(_JUNK, url):
        raise _Unusable("it has a space or a control character")


def _split(rest: str, *, written_scheme: bool) -> tuple[str, str, str]:
    """Cut what stands behind the scheme into user information, host with port, and the tail: path, query, fragment."""
    end = re.search(_END_OF_AUTHORITY, rest)
    authority, tail = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    # The last ``@`` separates: an earlier one can only belong to the user information, since no host has one.
    user_info, at, address = authority.rpartition("@")
    _check_misspelt_scheme(address, tail, written_scheme=written_scheme, alone=not at)
    # An "@" behind "/", "?" or "#" may be the real end of the user information. Then a part of the password would be
    # taken for the host, looked up, and shown.
    if "@" in tail:
        raise _Unusable("in user information write / as %2F, ? as %3F and # as %23; elsewhere write @ as %40")
    return user_info, address, tail


def _check_misspelt_scheme(address: str, tail: str, *, written_scheme: bool, alone: bool) -> None:
    """Refuse ``nats:/host``, ``nats//host``, ``nats/host``, ``nats:host``, ``nats://tls://host`` and the like.

    Else a host with the name ``nats`` would be dialled, and there may be one (which is written ``nats`` or
    ``nats:4222``). ``written_scheme``: a scheme and ``://`` stand in front. ``alone``: there is no user information,
    which might have a colon or slashes of its own.
    """
    host, colon, port = address.partition(":")
    word = host.lower()
    known = word in _SCHEMES
    if not known and (written_scheme or "@" in tail):
        return
    path = tail[:1] == "/" and tail != "/"
    without_port = path and not port and (bool(colon) or not written_scheme)
    no_port = not written_scheme and alone and bool(port) and not (port.isascii() and port.isdigit())
    if tail.startswith("//") or (without_port and (known or bool(colon))) or (known and no_port):
        example = word if known else "nats"
        what = "it has a scheme behind its scheme" if written_scheme else "its scheme must be followed by ://"
        raise _Unusable(f"{what}; what is meant is {example}://host:port, or host:port without a scheme")


def _decoded(text: str) -> tuple[str, str, str]:
    """What stands before the first colon, the colon if there is one, and what stands behind it, percent-decoded."""
    if re.search(_BAD_PERCENT, text):
        raise _Unusable("in user information % needs two hexadecimal digits behind it; write % itself as %25")
    first, colon, second = text.partition(":")
    from urllib.parse import unquote  # few URLs have user information

    try:
        return unquote(first, errors="strict"), colon, unquote(second, errors="strict")
    except UnicodeDecodeError:
        raise _Unusable("its user information is not percent-encoded UTF-8") from None


def _scheme(url: str, default_scheme: str) -> tuple[str, str]:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return default_scheme, url
    if scheme.lower() not in _PORTS:
        raise _Unusable("its scheme is none of nats, tls, ws and wss")
    return scheme.lower(), rest


def _path_and_query(scheme: str, tail: str) -> tuple[str, Secret | None]:
    if "#" in tail:
        raise _Unusable("it has a fragment (#)")
    if not tail.isascii():
        raise _Unusable("its path has characters that must be percent-encoded")
    path, _, query = tail.partition("?")
    if scheme not in _WEBSOCKET or tail == "/":
        return "", None
    return path or ("/" if query else ""), Secret(query) if query else None


_BAD_PERCENT: Final = "%(?![0-9A-Fa-f]{2})"


def _user_info(text: str) -> tuple[Secret | None, Secret | None, Secret | None]:
    """User, password and token. One part alone is a token."""
    if not text:
        return None, None, None
    name, colon, password = _decoded(text)
    if not colon:
        return None, None, Secret(name)
    if not name:
        raise _Unusable("it has a password without a user")
    return Secret(name), Secret(password), None


def _host_and_port(address: str, default_port: int) -> tuple[str, int]:
    if address[:1] == "[":
        host, bracket, rest = address[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":"):
            raise _Unusable("its brackets do not enclose an IPv6 address")
        return _ipv6(host), _port(rest[1:]) if rest[1:] else default_port
    if address.count(":") > 1:
        return _bare_ipv6(address, default_port)
    host, _, port = address.partition(":")
    return _name(host), _port(port) if port else default_port


def _bare_ipv6(address: str, default_port: int) -> tuple[str, int]:
    """IPv6 without brackets: the last group may be a port. It is taken when only one of the two readings is
    possible."""
    readings: list[tuple[str, int]] = []
    head, _, tail = address.rpartition(":")
    for host, port in ((address, str(default_port)), (head, tail)):
        try:
            readings.append((_ipv6(host), _port(port)))
        except _Unusable:
            continue
    if not readings:
        raise _Unusable("it has too many colons for a name, and is no IPv6 address")
    if len(readings) > 1:
        raise _Unusable("its last group may be a port; put the IPv6 address in brackets")
    return readings[0]


def _ipv6(text: str) -> str:
    from ipaddress import IPv6Address  # most servers have names

    try:
        # The longest form, six groups and an IPv4 address behind them, has 45 characters. An empty text is no address.
        address = IPv6Address(text if len(text) <= 45 else "")
    except ValueError:
        raise _Unusable("it has no valid IPv6 address") from None
    if address.scope_id is not None:
        raise _Unusable("its IPv6 address has a zone")
    # An IPv4 address must give the same text when it is written as IPv6, or the pool would have one server twice.
    return str(address.ipv4_mapped or address)


def _port(text: str) -> int:
    # `isdigit` is also true of digits of other scripts; and a longer number would only make `int` compute.
    if len(text) <= 5 and text.isascii() and text.isdigit() and 1 <= (port := int(text)) <= 65535:
        return port
    raise _Unusable("its port is not a number from 1 to 65535")


_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = rf"{_LABEL}(?:\.{_LABEL})*\.?"


def _name(text: str) -> str:
    """A host name or an IPv4 address, in lower case. Underscores are allowed: DNS has none in host names, Docker
    has."""
    if not text:
        raise _Unusable("it has no host")
    if len(text) > MAX_HOST:
        raise _Unusable(f"its host has {len(text)} characters, a name has {MAX_HOST} at most")
    name = text.lower()
    if not (name.isascii() and re.fullmatch(_NAME, name)):
        raise _Unusable("its host is neither a name (ASCII, labels of 1 to 63 characters) nor an IP address")
    if _is_ip(name):
        from ipaddress import IPv4Address  # most servers have names

        try:
            IPv4Address(name)
        except ValueError:
            raise _Unusable("its host is neither a name nor a valid IPv4 address") from None
    return name


def _is_ip(host: str) -> bool:
    """Whether a valid host is an IP address. Names never end with a number: there is no such top-level domain."""
    return ":" in host or host.rstrip(".").rpartition(".")[2].isdigit()


# --- what an error may show ------------------------------------------------------------------------------------------


def _shown(url: str, list_has_user_info: bool) -> str:
    """What an error may show of a bad URL: what is certainly no user information, cut short and printable.

    ``list_has_user_info``: some URL of the list has an ``@``. A piece without one may then be half of a password that
    had a comma. A port that is no number may be a password whose host was forgotten. And what has several colons, but
    is no IPv6 address, may be the whole of the user information.
    """
    _, at, text = url.rpartition("@")
    if not at and list_has_user_info:
        return "(not shown: it may be user information)"
    text = text.partition("?")[0]
    head, colon, port = text.rpartition(":")
    if colon and not port.startswith("//") and not port.rstrip("/").isdigit():
        text = f"{head}:***"
    scheme, separator, rest = text.rpartition("://")
    if rest.count(":") > 1 and not re.match(_LIKE_IPV6, rest):
        text = f"{scheme}{separator}***"
    quoted = ascii(text[:_SHOWN])
    return quoted if len(quoted) < _SHOWN else f"{quoted[:_SHOWN]}..."


_LIKE_IPV6: Final = r"[][0-9A-Fa-f:.*]+(?:/|$)"
