"""What to write instead of a name that is no option or argument: one that is misspelt, or that ``nats-py`` has.

This module is imported only when such an error is made, so that other programs do not pay for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

__all__ = ["misused_subscribe", "unknown_options"]

_OPTIONS: Final = {
    "closed_cb": "on_event is called with a Closed event",
    "disconnected_cb": "on_event is called with a Disconnected event",
    "discovered_server_cb": "on_event is called with a ServersDiscovered event",
    "dont_randomize": "write randomize_servers=False",
    "error_cb": "on_event is called with ServerErrorReceived, SlowConsumer and other events",
    "flush_timeout": "flush(timeout=...) has it",
    "flusher_queue_size": "nothing needs it; pending_size bounds what is kept without a connection (bytes)",
    "io_loop": "nothing needs it",
    "lame_duck_mode_cb": "on_event is called with a LameDuckMode event",
    "loop": "nothing needs it",
    "max_outstanding_pings": "it is max_pings_out",
    "nkeys_seed": "nkey_seed takes the seed itself, not a file that has it",
    "nkeys_seed_str": "it is nkey_seed",
    "no_echo": "write echo=False",
    "reconnect_time_wait": "it is reconnect_wait (seconds)",
    "reconnected_cb": "on_event is called with a Reconnected event",
    "signature_cb": "auth is called for each attempt with a Challenge, and returns Credentials",
    "tls_handshake_first": "it is tls_first",
    "url": "give the URL first, without a name",
    "urls": "give the URLs first, without a name",
    "user_credentials": "it is credentials",
    "user_jwt_cb": "auth is called for each attempt with a Challenge, and returns Credentials",
    "ws_connection_headers": "it is websocket_headers",
}
_SUBSCRIBE: Final = {
    "cb": "it is callback",
    "future": "next() waits for one message",
    "group": "it is queue",
    "handler": "it is callback",
    "pending_bytes_limit": "it is max_pending_bytes",
    "pending_msgs_limit": "it is max_pending_msgs",
    "queue_group": "it is queue",
    "topic": "it is subject",
}


def unknown_options(unknown: Iterable[str], known: Collection[str]) -> TypeError:
    """For names that `ConnectOptions` has not. Values are not shown, they may be secrets."""
    return TypeError("; ".join(_sentence("connect", "option", name, _OPTIONS, known) for name in unknown))


def misused_subscribe(args: Sequence[object], unknown: Iterable[str], known: Collection[str]) -> TypeError:
    """For positional arguments behind the subject, and for names that ``subscribe`` has not."""
    sentences = [_sentence("subscribe", "argument", name, _SUBSCRIBE, known) for name in unknown]
    for given in args[1:]:
        if isinstance(given, str):
            advice = f"write queue={given[:64]!r} for a queue group"
        elif callable(given):
            advice = "write callback=... for a function that gets the messages"
        else:
            advice = "write the others with their names"
        sentences.append(f"subscribe takes the subject alone without a name: {advice}")
    return TypeError("; ".join(sentences))


def _sentence(call: str, what: str, name: str, elsewhere: Mapping[str, str], known: Collection[str]) -> str:
    advice = elsewhere.get(name)
    if advice is None:
        near = get_close_matches(name, sorted(known), n=1)
        advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    return f"{call} has no {what} {name[:64]!r}: {advice}"
