"""What may go on the wire as a subject, reply subject, queue group or inbox prefix (ADR-6), and who matches whom.

The rules look at the encoded bytes, not at the text, because a subclass of ``str`` can lie about its characters but not
about the bytes that `str.encode` makes of it. A server splits a line at blanks and ends it at LF, so a byte up to 0x20
inside a subject would begin a second argument, or a second operation. Bytes from 0x80 on are text to a server.
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import InvalidSubjectError

__all__ = [
    "encode_literal",
    "encode_queue",
    "encode_reply",
    "encode_subject",
    "encode_subscription_subject",
    "subject_matches",
    "validate_inbox_prefix",
    "validate_queue",
    "validate_reply",
    "validate_subject",
    "validate_subscription_subject",
]

_LITERAL: Final = re.compile(rb"[^\x00-\x20\x7f]+").fullmatch
# No token has a dot in these patterns, so there is one way to match a subject, and the time grows with its length
# alone.
_PLAIN: Final = re.compile(rb"[^\x00-\x20\x7f.*>]+(?:\.[^\x00-\x20\x7f.*>]+)*").fullmatch
_TOKENS: Final = re.compile(rb"[^\x00-\x20\x7f.]+(?:\.[^\x00-\x20\x7f.]+)*").fullmatch
_WILDCARD_TOKEN: Final = re.compile(rb"(?:\A|\.)[*>](?:\.|\Z)").search
_SUBSCRIPTION: Final = re.compile(
    rb"(?:(?:\*|[^\x00-\x20\x7f.*>]+)\.)*(?:\*|>|[^\x00-\x20\x7f.*>]+)",
).fullmatch


def validate_subject(subject: str) -> None:
    """Check a subject to publish to (ADR-6).

    Raises `InvalidSubjectError` when it is empty, has a blank, a control character, an empty token or a lone surrogate,
    or has a wildcard as a token: a message to ``orders.*`` would reach nobody. `TypeError` when it is no ``str``.
    """
    encode_subject(subject)


def validate_reply(reply: str) -> None:
    """Check a reply subject; the rules are those of `validate_subject`, since the answer is published to it."""
    encode_reply(reply)


def validate_subscription_subject(subject: str) -> None:
    """Check a subject to subscribe to (ADR-6): as `validate_subject`, but wildcards are allowed.

    ``*`` and ``>`` must be whole tokens and ``>`` the last one; ``foo*`` raises `InvalidSubjectError`, since the server
    would take it as plain text where most people mean a prefix.
    """
    encode_subscription_subject(subject)


def validate_queue(queue: str) -> None:
    """Check the name of a queue group: not empty, no blank, no control character, no lone surrogate.

    Raises `InvalidSubjectError`, or `TypeError` when it is no ``str``.
    """
    encode_queue(queue)


def validate_inbox_prefix(prefix: str) -> None:
    """Check the prefix of inbox subjects: a subject without any ``*`` or ``>``, and without a dot at its ends.

    Raises `InvalidSubjectError`, or `TypeError` when it is no ``str``.
    """
    raw = encode_subject(prefix, "inbox prefix")
    if b"*" in raw or b">" in raw:
        raise InvalidSubjectError(f"inbox prefix {_shown(prefix)} must not contain '*' or '>'")


def subject_matches(pattern: str, subject: str) -> bool:
    """Tell whether a subscription to ``pattern`` receives messages to ``subject``.

    Neither is validated. In ``subject`` wildcards are plain text, so ``*`` matches ``*`` but ``a`` does not.
    """
    if pattern == subject:
        return True
    wanted = pattern.split(".")
    given = subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        # ``>`` stands for one token or more, never for none.
        if len(given) <= len(wanted):
            return False
        del given[len(wanted) :]
    return len(wanted) == len(given) and all(w == "*" or w == g for w, g in zip(wanted, given, strict=True))


# --- the same checks, giving the bytes that were checked -------------------------------------------------------------


def encode_subject(subject: str, what: str = "subject") -> bytes:
    """The bytes of a subject to publish to; see `validate_subject`. ``what`` names it in the error."""
    raw = _encode(subject, what)
    # Nearly every subject ends here. The two patterns below also let a ``*`` or ``>`` inside a token through, which is
    # plain text to a server.
    if _PLAIN(raw) is not None:
        return raw
    if _TOKENS(raw) is None:
        raise InvalidSubjectError(f"{what} {_shown(subject)} {_reason(raw)}")
    if _WILDCARD_TOKEN(raw) is not None:
        raise InvalidSubjectError(f"{what} {_shown(subject)} has a wildcard; only subscriptions may have one")
    return raw


def encode_reply(reply: str) -> bytes:
    """The bytes of a reply subject; see `validate_reply`."""
    return encode_subject(reply, "reply subject")


def encode_subscription_subject(subject: str) -> bytes:
    """The bytes of a subject to subscribe to; see `validate_subscription_subject`."""
    raw = _encode(subject, "subject")
    if _SUBSCRIPTION(raw) is None:
        reason = _reason(raw) if _TOKENS(raw) is None else "has '*' inside a token, or '>' before the last one"
        raise InvalidSubjectError(f"subject {_shown(subject)} {reason}")
    return raw


def encode_queue(queue: str) -> bytes:
    """The bytes of a queue group's name; see `validate_queue`."""
    raw = _encode(queue, "queue group")
    # The name of a queue group has no tokens: dots and wildcards have no meaning in it, and may stand anywhere.
    if _LITERAL(raw) is None:
        raise InvalidSubjectError(f"queue group {_shown(queue)} {_reason(raw)}")
    return raw


def encode_literal(subject: str, what: str = "subject") -> bytes:
    """The bytes of a subject that a server passes on: any tokens, also bytes that are no UTF-8 (as surrogate escapes).

    Raises `InvalidSubjectError` for what cannot be one argument of a line.
    """
    raw = _encode(subject, what, "surrogateescape")
    if _LITERAL(raw) is None:
        raise InvalidSubjectError(f"{what} {_shown(subject)} {_reason(raw)}")
    return raw


def _encode(text: object, what: str, errors: str = "strict") -> bytes:
    if not isinstance(text, str):
        advice = f": decode it, as in {what.split()[0]}.decode()" if isinstance(text, (bytes, bytearray)) else ""
        raise TypeError(f"{what} must be str, not {type(text).__name__}{advice}")
    try:
        return str.encode(text, "utf-8", errors)
    except UnicodeEncodeError:
        raise InvalidSubjectError(f"{what} {_shown(text)} has a lone surrogate, which is no UTF-8") from None


def _shown(text: str) -> str:
    plain = str.__str__(text)
    return ascii(plain if len(plain) <= 64 else plain[:64] + "...")


def _reason(raw: bytes) -> str:
    if not raw:
        return "is empty"
    if _LITERAL(raw) is None:
        return "has a blank or a control character"
    return "has an empty token"
