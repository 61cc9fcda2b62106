"""Everything a user can set, checked once, when it is set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypedDict, TypeGuard

from .._auth.credentials import AuthCallback, CredentialsSource, holds_credentials, is_path
from .._callables import unusable_callback
from .._limits import MAX_COUNT, MAX_SECONDS, is_number, shown
from .._secret import Secret, discreet
from .._servers.proxy import Proxy
from .._value import PrivateValue, set_once
from .._wire.subjects import validate_inbox_prefix
from ..errors import ConfigurationError, InvalidSubjectError
from .events import LifecycleEvent

if TYPE_CHECKING:
    from .._layers.tls import SSLContext

    TLSSource = SSLContext | Callable[[str], SSLContext | Awaitable[SSLContext]]
else:
    TLSSource = object  # `ssl` is loaded by those who use it

WebSocketHeaders = Mapping[str, str] | Iterable[tuple[str, str | Secret]]
WebSocketHeadersSource = WebSocketHeaders | Callable[[str], WebSocketHeaders | Awaitable[WebSocketHeaders]]

DelayCallback = Callable[[int], float | Awaitable[float]]

__all__ = ["ConnectOptionFields", "ConnectOptions", "read_options"]

MiB = 1024 * 1024


class ConnectOptions(PrivateValue, frozen=True, kw_only=True):
    """Options of one client. All times are seconds, 100 years at most, all sizes bytes.

    Wrong values raise `ConfigurationError`.

    User information in a server's URL goes before ``user``, ``password`` and ``token`` for that server. Secrets are
    kept as `Secret`, whatever they were given as.
    """

    _hidden = frozenset(
        {
            *("user", "password", "token", "nkey_seed", "credentials", "auth"),
            *("tls", "websocket_headers", "proxy"),
        }
    )

    name: str | None = None
    """The client's name, shown in the server's monitoring; any text that UTF-8 can express. It is a part of CONNECT, a
    line of which servers read 4096 bytes unless they are configured otherwise."""
    user: str | Secret | None = None
    """The user that CONNECT names (``user``). Refused together with ``token``: a server takes one of the two."""
    password: str | Secret | None = None
    """The user's password (``pass`` of CONNECT); an empty one is sent when there is only ``user``. Refused without
    ``user``."""
    token: str | Secret | None = None
    """A secret that stands for a user (``auth_token`` of CONNECT). Refused together with ``user``."""
    nkey_seed: str | Secret | None = None
    """The seed (``SU…``) of a user's NKey, which signs the server's nonce. Needs ``nats-proto[nkeys]``. A seed that is
    malformed or of another kind raises `CredentialsError`; refused together with ``credentials``, which have a seed."""
    credentials: CredentialsSource | None = None
    """A ``.creds`` file: its path, its content (bytes, or text with its ``BEGIN`` lines), or a function that returns
    either, maybe an ``async`` one where the client can await. Read, or called, anew for each attempt; 1 MiB at most.
    Content that is malformed raises `CredentialsError` at once; a file is first looked at by the first attempt."""
    auth: AuthCallback | None = None
    """Called for each attempt with a `Challenge`; returns `Credentials`, all of them. ``connect_timeout`` bounds it.
    Refused together with any of the five options above. User information in a server's URL still goes before its
    answer."""
    tls: TLSSource | None = None
    """TLS for every server, with this `ssl.SSLContext`; or a function of the server's URL that returns one, called for
    each attempt. Without it ``tls://``, ``wss://`` and servers that require TLS get Python's default context."""
    tls_hostname: str | None = None
    """The name that certificates must prove, instead of the URL's host. An empty one is refused."""
    tls_first: bool = False
    """TLS before INFO, for servers with ``handshake_first``; asks for TLS as ``tls`` does. The default is the
    protocol's own order, INFO first. WebSocket servers have TLS first in any case."""
    websocket_headers: WebSocketHeadersSource | None = None
    """More headers for the upgrade of ``ws://`` and ``wss://``; or a function of the server's URL that returns them,
    called for each attempt. Refused are what HTTP does not allow and the headers that make the upgrade itself."""
    websocket_compression: bool = False
    """True: offer permessage-deflate (RFC 7692) to ``ws://`` and ``wss://`` servers; used when the server agrees. Off:
    compressing costs time on both sides."""
    proxy: str | Proxy | None = None
    """``http://[user:password@]host:port`` of a proxy that opens a tunnel (CONNECT) to the servers. The environment
    (``HTTP_PROXY`` and the like) is not asked."""
    echo: bool = True
    """False: messages published by this client are not delivered to its own subscriptions. An attempt at a server that
    cannot do that (``proto`` of its INFO below 1) fails with `NoEchoNotSupportedError`."""
    verbose: bool = False
    """True: the server confirms each operation with ``+OK``, which the client reads and ignores. Off: only somebody who
    watches the wire gains by it. (Like ``pedantic`` it is always said in CONNECT: servers take a missing one for
    True.)"""
    pedantic: bool = False
    """True: the server also checks the subjects of publishes; its complaint becomes a `ServerErrorReceived`. Off, since
    subjects are checked by the client before they are sent."""
    inbox_prefix: str = "_INBOX"
    """What all reply subjects (inboxes) begin with: a subject (ADR-6) without ``*`` and ``>``. Where each user has a
    prefix of their own, permissions on the server can keep users from reading one another's replies."""
    connect_timeout: float = 2.0
    """For one attempt: dial and handshake together, the callbacks of the handshake included. Greater than 0."""
    ping_interval: float = 120.0
    """Between keep-alive PINGs; 0 turns them off. The default is that of other clients and of servers, which send PINGs
    of their own."""
    max_pings_out: int = 2
    """Keep-alive PINGs that may be unanswered at the same time, from 1. When there are so many and the next PING is
    due, the connection is stale and given up: with the defaults, 4 to 6 minutes after the server went silent. Only a
    PONG counts as an answer, since data that comes in does not show that the server reads what we send."""
    allow_reconnect: bool = True
    """False: the client is closed when its connection is lost, and does not leave a server in lame duck mode early. The
    method ``reconnect`` and ``retry_on_failed_connect`` work all the same: the user has asked for them."""
    max_reconnect_attempts: int = -1
    """Failed attempts in a row after which a server leaves the pool; 0: a lost connection is the end; -1: no server
    ever leaves, since a service should outlive an outage of any length. Attempts of the first connect do not count, and
    a success sets the count back to 0. When no server is left, the client is closed with `NoServersError`."""
    reconnect_wait: float = 2.0
    """Before the second round through the pool; grows by half each round up to 8 times this. Also the shortest time
    between two dials of the same server. Within a round the servers follow one another without a wait."""
    reconnect_jitter: float = 0.1
    """A random part of this time is added to each wait. The first attempt after a loss waits for such a part alone, so
    that a thousand clients that lost the same server do not all come to the next one at once."""
    reconnect_jitter_tls: float = 1.0
    """Used in place of ``reconnect_jitter`` when TLS is asked for (by ``tls``, ``tls_first``, or the URL of any server
    given): a TLS handshake costs a server much more, so clients are spread over a longer time."""
    reconnect_delay: DelayCallback | None = None
    """Called with the number of rounds made without a connection (1, 2, …), when one is over. Its result, an int or a
    float from 0 up, replaces wait and jitter before the next round: seconds. It may block; where the client can await,
    it may be ``async``. It has ``connect_timeout`` to answer. When it is too late, raises, or returns anything else,
    the usual wait is used, and the log says so, once for each kind. No server is dialled twice within
    ``reconnect_wait`` all the same: lower that as well to come back sooner."""
    randomize_servers: bool = True
    """True: the servers given are tried in a random order, so that clients with the same list spread over them; servers
    that INFO names join the pool in a random order, too. False: in the order in which they are listed. The order is
    drawn once, all rounds keep it."""
    ignore_discovered_servers: bool = False
    """True: only the servers given are tried. False: the pool also takes the servers that INFO names
    (``connect_urls``), by which a cluster tells of its members; at most 1000 of them."""
    retry_on_failed_connect: bool = False
    """True: when no server could be used, the first connect is retried in the background by the rules of a reconnect,
    and publishes are kept meanwhile (``pending_size``). False: it fails after one attempt at each server, so that a
    wrong address shows at once."""
    pending_size: int = 8 * MiB
    """Bytes of publishes, protocol lines included, that are kept while there is no connection; 0: none, each raises. A
    publish raises `OutboundBufferLimitError` when so many bytes wait already; so the last one taken may exceed the
    limit. This is not about a slow connection: there the clients' ``publish`` waits while 1 MiB is unwritten."""
    drain_timeout: float = 30.0
    """How long a ``drain`` without a ``timeout`` of its own may take, that of a client or of one subscription."""
    max_pending_msgs: int = 65536
    """Unread messages that one subscription keeps, unless ``subscribe`` sets another limit; 0: no limit. A message that
    comes when the limit is reached is dropped and counted, and `SlowConsumer` tells of it; other subscriptions go
    on."""
    max_pending_bytes: int = 64 * MiB
    """The same limit in bytes, headers and payloads together; 0: no limit. Whichever of the two is reached first
    counts, and a message that is larger than this alone is dropped always."""
    fail_requests_on_disconnect: bool = False
    """True: when the connection is lost, requests that wait for an answer fail at once with `ConnectionLostError`.
    False: they wait until their own timeout, since the next connection subscribes to their inbox again, so that an
    answer may still come."""
    retry_auth_errors: bool = False
    """False: a server that gives the same authentication error twice, with no success in between, leaves the pool,
    since it would refuse the same credentials again. True: it stays, for credentials that may become valid while the
    client runs."""
    lame_duck_migration: bool = True
    """True: leave a server that says that it will close soon (``ldm`` of INFO) as soon as another connection is made
    and subscribed. It takes another server, or a host name that may lead to one, and ``allow_reconnect``. False: stay
    until the server closes the connection."""
    max_control_line: int = 4096
    """Longest line that a publish, request or subscribe may make: its subjects and sizes, with the line's end; at least
    512. Beyond it `MaxControlLineError` is raised, since a server ends the connection over a line that is too long for
    it. The default is that of servers. INFO does not tell the limit of a server that is configured otherwise, so that
    number is to be given here. Lines of a server may have 32 KiB, or eight times this if that is more, since it may
    quote a line of ours with every byte escaped; INFO may have 1 MiB."""
    max_message_size: int = 64 * MiB
    """Largest header block and payload together accepted from a server, from 1. The default is the most that servers
    can be configured to take. A larger message ends the connection, and another one is made."""
    on_event: Callable[[LifecycleEvent], object] | None = None
    """Called with each life-cycle event, one at a time, in the order in which they happened; `Closed` is the last. What
    it raises is logged. When 1024 events wait for it, the oldest are dropped. An ``async def`` is for nats_anyio."""

    @discreet
    def __post_init__(self) -> None:
        for name in ("name", "tls_hostname"):
            text: object = getattr(self, name)
            if text is not None and not _is_text(text):
                raise ConfigurationError(f"{name} must be text that UTF-8 can express, or None")
        for name in ("user", "password", "token", "nkey_seed"):
            self._hide(name)
        for name in _FLAGS:
            flag: object = getattr(self, name)
            if not isinstance(flag, bool):
                raise ConfigurationError(f"{name} must be True or False: {flag!r}")
        for name in _SECONDS:
            seconds: object = getattr(self, name)
            if not (_is_number(seconds) and 0 <= seconds <= MAX_SECONDS):
                raise ConfigurationError(
                    f"{name} must be a number of seconds from 0 to {MAX_SECONDS:.0f} (100 years): {shown(seconds)}"
                )
        # Any other time may be 0, which leaves out a wait or turns something off. In no time at all nothing can
        # connect.
        if self.connect_timeout == 0:
            raise ConfigurationError("connect_timeout must be greater than 0 seconds")
        for name, least in _LEAST.items():
            number: object = getattr(self, name)
            # `isinstance` would let True and False pass, which are integers to Python and a mistake here.
            if type(number) is not int or not least <= number <= MAX_COUNT:
                raise ConfigurationError(f"{name} must be a whole number from {least} to 2**63 - 1: {shown(number)}")
        for name in ("reconnect_delay", "on_event", "auth"):
            callback: object = getattr(self, name)
            if callback is not None and not callable(callback):
                raise ConfigurationError(f"{name} must be callable or None, not {type(callback).__name__}")
        self._check_authentication()
        self._check_transport()
        try:
            validate_inbox_prefix(self.inbox_prefix)
        except (InvalidSubjectError, TypeError) as error:
            raise ConfigurationError(f"inbox_prefix: {error}") from None

    def _hide(self, name: str) -> None:
        """Keep a text as a secret."""
        value: object = getattr(self, name)
        if value is None or isinstance(value, Secret):
            return
        wrong = not isinstance(value, str) or not _encodes(value)
        set_once(self, name, Secret(value) if isinstance(value, str) and not wrong else None)
        del value
        if wrong:
            raise ConfigurationError(f"{name} must be text that UTF-8 can express, or None")  # its value is private

    def _check_authentication(self) -> None:
        if self.password is not None and self.user is None:
            raise ConfigurationError("password was given without user")
        if self.token is not None and self.user is not None:
            raise ConfigurationError("token and user were both given; a server takes one of them")
        if self.auth is not None:
            given = [name for name in _REPLACED_BY_AUTH if getattr(self, name) is not None]
            if given:
                raise ConfigurationError(f"auth answers for everything; it was given together with {', '.join(given)}")
        if self.nkey_seed is not None:
            if self.credentials is not None:
                raise ConfigurationError("nkey_seed and credentials were both given; credentials have a seed")
            from ..nkeys import Prefix, decode_seed  # only who has keys pays for loading it

            # Decoded for its errors alone: a malformed seed has to show now, and not once for each attempt.
            decode_seed(self.nkey_seed, Prefix.USER)
        source = self.credentials
        if isinstance(source, bytes) or (isinstance(source, str) and holds_credentials(source)):
            set_once(self, "credentials", Secret(source))
            source = self.credentials
        if isinstance(source, Secret):
            from .._auth.user_credentials import parse_credentials  # only who has them pays for loading it

            parse_credentials(source)
        elif source is not None and not isinstance(source, str) and not is_path(source) and not callable(source):
            raise ConfigurationError("credentials must be bytes, text, a path, or a function that returns one of them")

    def _check_transport(self) -> None:
        tls: object = self.tls
        # An `isinstance` check would have to import `ssl`, which only those who use TLS need. TLS without sockets is
        # made by `wrap_bio`, so what has that method can be used.
        if tls is not None and not callable(tls) and not hasattr(tls, "wrap_bio"):
            raise ConfigurationError("tls must be an ssl.SSLContext, or a function that returns one")
        if self.tls_hostname == "":
            raise ConfigurationError("tls_hostname is empty; None means the host of the URL")
        if self.websocket_headers is not None and not callable(self.websocket_headers):
            from .._layers.websocket import check_headers  # only who uses WebSocket pays for loading it

            set_once(self, "websocket_headers", check_headers(self.websocket_headers))
        if isinstance(self.proxy, str):
            set_once(self, "proxy", Proxy.parse(self.proxy))
        elif not _is_one_of(self.proxy, Proxy, type(None)):
            raise ConfigurationError("proxy must be a URL (http://host:port)")

    def __reduce__(self) -> tuple[Callable[[dict[str, object]], ConnectOptions], tuple[dict[str, object]]]:
        private = [name for name in _PRIVATE if getattr(self, name) is not None]
        if private:
            raise TypeError(
                f"ConnectOptions with {', '.join(private)} are not pickled: a pickle is no place for secrets"
            )
        return _restored, ({name: getattr(self, name) for name in self.__struct_fields__},)

    # Options are frozen, so the same object does as well as a copy. Without these two methods `copy` would call
    # `__reduce__`, which refuses options with secrets.
    def __copy__(self) -> ConnectOptions:
        return self

    def __deepcopy__(self, memo: object) -> ConnectOptions:
        return self


def _restored(values: dict[str, object]) -> ConnectOptions:
    return ConnectOptions(**values)  # type: ignore[arg-type]  # checked again by the class itself


def read_options(options: object, fields: ConnectOptionFields, *, awaits: bool = True) -> ConnectOptions:
    """What a client's ``connect`` was given: ready options, or their fields by name.

    ``awaits``: the client awaits what ``on_event`` and ``reconnect_delay`` return, so they may be ``async``.

    Raises `ConfigurationError`; `TypeError` for a name that is none of them, with the one that was probably meant.
    """
    given = _given(options, fields)
    for name, callback in (("on_event", given.on_event), ("reconnect_delay", given.reconnect_delay)):
        if callback is not None and (wrong := unusable_callback(callback, awaits=awaits)) is not None:
            raise ConfigurationError(f"{name}: {wrong}")
    return given


def _given(options: object, fields: ConnectOptionFields) -> ConnectOptions:
    if options is None:
        # Looked for before the class sees the names: its own `TypeError` would not tell which option was probably
        # meant.
        unknown = [name for name in fields if name not in ConnectOptions.__struct_fields__]
        if unknown:
            from .._misuse import unknown_options  # only who needs to be told pays for loading it

            raise unknown_options(unknown, ConnectOptions.__struct_fields__)
        return ConnectOptions(**fields)
    if fields:
        raise ConfigurationError(f"give either options or its fields by name, not both: {', '.join(fields)}")
    if not isinstance(options, ConnectOptions):
        raise ConfigurationError(f"options must be ConnectOptions, not {type(options).__name__}")
    return options


_REPLACED_BY_AUTH: Final = ("user", "password", "token", "nkey_seed", "credentials")
_PRIVATE: Final = (*_REPLACED_BY_AUTH, "auth", "tls", "websocket_headers", "proxy")

_FLAGS: Final = (
    "tls_first",
    "websocket_compression",
    "echo",
    "verbose",
    "pedantic",
    "allow_reconnect",
    "randomize_servers",
    "ignore_discovered_servers",
    "retry_on_failed_connect",
    "fail_requests_on_disconnect",
    "retry_auth_errors",
    "lame_duck_migration",
)
_SECONDS: Final = (
    "connect_timeout",
    "ping_interval",
    "reconnect_wait",
    "reconnect_jitter",
    "reconnect_jitter_tls",
    "drain_timeout",
)
_LEAST: Final = {
    "max_pings_out": 1,
    "max_reconnect_attempts": -1,
    "pending_size": 0,
    "max_pending_msgs": 0,
    "max_pending_bytes": 0,
    "max_control_line": 512,
    "max_message_size": 1,
}


def _is_one_of(value: object, *types: type) -> bool:
    return isinstance(value, types)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and _encodes(value)


def _is_number(value: object) -> TypeGuard[float]:
    return is_number(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class ConnectOptionFields(TypedDict, total=False):
    """The fields of `ConnectOptions` as keyword arguments."""

    name: str | None
    user: str | Secret | None
    password: str | Secret | None
    token: str | Secret | None
    nkey_seed: str | Secret | None
    credentials: CredentialsSource | None
    auth: AuthCallback | None
    tls: TLSSource | None
    tls_hostname: str | None
    tls_first: bool
    websocket_headers: WebSocketHeadersSource | None
    websocket_compression: bool
    proxy: str | Proxy | None
    echo: bool
    verbose: bool
    pedantic: bool
    inbox_prefix: str
    connect_timeout: float
    ping_interval: float
    max_pings_out: int
    allow_reconnect: bool
    max_reconnect_attempts: int
    reconnect_wait: float
    reconnect_jitter: float
    reconnect_jitter_tls: float
    reconnect_delay: DelayCallback | None
    randomize_servers: bool
    ignore_discovered_servers: bool
    retry_on_failed_connect: bool
    pending_size: int
    drain_timeout: float
    max_pending_msgs: int
    max_pending_bytes: int
    fail_requests_on_disconnect: bool
    retry_auth_errors: bool
    lame_duck_migration: bool
    max_control_line: int
    max_message_size: int
    on_event: Callable[[LifecycleEvent], object] | None
