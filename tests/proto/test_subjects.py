"""Subjects, reply subjects, queue groups and inbox prefixes: what is accepted, and who matches whom (ADR-6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nats_proto._wire.subjects import (
    encode_literal,
    subject_matches,
    validate_inbox_prefix,
    validate_queue,
    validate_reply,
    validate_subject,
    validate_subscription_subject,
)
from nats_proto.errors import InvalidSubjectError

CHECKS: dict[str, Callable[[str], object]] = {
    "subject": validate_subject,
    "reply": validate_reply,
    "subscription": validate_subscription_subject,
    "queue": validate_queue,
    "prefix": validate_inbox_prefix,
    "literal": encode_literal,
}
EVERYWHERE = frozenset(CHECKS)
SUBSCRIPTION = frozenset({"subscription", "queue", "literal"})
NO_TOKENS = frozenset({"queue", "literal"})
TEXT = frozenset({"subject", "reply", "queue", "literal"})  # a wildcard inside a token is plain text there

# text, where it is accepted
ACCEPTED = [
    ("a", EVERYWHERE),
    ("a.b.c", EVERYWHERE),
    ("$JS.API.INFO", EVERYWHERE),
    ("_INBOX.x-y_z=/\\'\"", EVERYWHERE),
    ("ä.€.🎈", EVERYWHERE),
    ("a\u3000b.c\u2028d.e\x85f\xa0", EVERYWHERE),  # blanks to Unicode, not to the server
    ("%0d%0a", EVERYWHERE),
    ("a" * 5000, EVERYWHERE),
    ("*", SUBSCRIPTION),
    (">", SUBSCRIPTION),
    ("a.*.b", SUBSCRIPTION),
    ("a.>", SUBSCRIPTION),
    ("*.*.>", SUBSCRIPTION),
    ("*.a", SUBSCRIPTION),
    ("a.>.b", NO_TOKENS),
    (">.a", NO_TOKENS),
    ("a*", TEXT),
    ("a.*b", TEXT),
    ("a.b>", TEXT),
    ("a.**", TEXT),
    (">>", TEXT),
    (".", NO_TOKENS),
    ("a.", NO_TOKENS),
    (".a", NO_TOKENS),
    ("a..b", NO_TOKENS),
    ("a\udcff", frozenset({"literal"})),
    ("", frozenset()),
    (" ", frozenset()),
    ("a b", frozenset()),
    ("a ", frozenset()),
    (" a", frozenset()),
    ("a\tb", frozenset()),
    ("a\r", frozenset()),
    ("a\n", frozenset()),
    ("a.b\n", frozenset()),
    ("*\n", frozenset()),
    ("a\r\nPUB b 0\r\n\r\n", frozenset()),
    ("a\x00", frozenset()),
    ("a\x0b", frozenset()),
    ("a\x1f", frozenset()),
    ("a\x7f", frozenset()),
    ("a\ud800", frozenset()),
]


@pytest.mark.parametrize(("text", "accepted"), ACCEPTED, ids=[ascii(text)[:30] for text, _ in ACCEPTED])
@pytest.mark.parametrize("check", CHECKS)
def test_table(check: str, text: str, accepted: frozenset[str]) -> None:
    if check in accepted:
        CHECKS[check](text)
        return
    with pytest.raises(InvalidSubjectError) as caught:
        CHECKS[check](text)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


@pytest.mark.parametrize(
    ("check", "text", "reason"),
    [
        ("subject", "", "subject '' is empty"),
        ("subject", "a b", "subject 'a b' has a blank or a control character"),
        ("subject", "a..b", "subject 'a..b' has an empty token"),
        ("subject", "a.*", "subject 'a.*' has a wildcard; only subscriptions may have one"),
        ("subject", "\ud800", "subject '\\ud800' has a lone surrogate, which is no UTF-8"),
        ("reply", "\n", "reply subject '\\n' has a blank or a control character"),
        ("subscription", "a.>.b", "subject 'a.>.b' has '*' inside a token, or '>' before the last one"),
        ("subscription", "a.", "subject 'a.' has an empty token"),
        ("queue", "q q", "queue group 'q q' has a blank or a control character"),
        ("prefix", "a*", "inbox prefix 'a*' must not contain '*' or '>'"),
        ("prefix", "a.", "inbox prefix 'a.' has an empty token"),
        ("subject", "b " * 100, f"subject '{'b ' * 32}...' has a blank or a control character"),
    ],
)
def test_reasons(check: str, text: str, reason: str) -> None:
    with pytest.raises(InvalidSubjectError) as caught:
        CHECKS[check](text)
    assert str(caught.value) == reason


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("wrong", [b"a", None, 5, ["a"]], ids=repr)
def test_only_text(check: str, wrong: object) -> None:
    with pytest.raises(TypeError, match="must be str, not"):
        CHECKS[check](wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("check", CHECKS)
def test_every_forbidden_byte(check: str) -> None:
    for byte in [*range(0x21), 0x7F]:
        for text in (f"a{chr(byte)}", f"a{chr(byte)}b", f"{chr(byte)}b"):
            with pytest.raises(InvalidSubjectError):
                CHECKS[check](text)
    for byte in set(range(0x21, 0x7F)) - set(b".*>"):
        CHECKS[check](f"a{chr(byte)}b")


@pytest.mark.parametrize(
    ("pattern", "subject", "matches"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", "A", False),
        ("a", "a.b", False),
        ("a.b", "a", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("*.b", "a.c", False),
        ("a.*.c", "a.b.c", True),
        (">", "a", True),
        (">", "a.b.c", True),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "b.a", False),
        ("*.>", "a.b", True),
        ("*.>", "a", False),
        ("a", "*", False),
        ("a.b", "a.*", False),
        ("*", "*", True),
        (">", ">", True),
        ("a.>", "a.>", True),
        ("a>", "ab", False),
        ("a.>.b", "a.x.b", False),
        (">.b", "a.b", False),
        ("a*", "ab", False),
    ],
)
def test_subject_matches(pattern: str, subject: str, matches: bool) -> None:
    assert subject_matches(pattern, subject) is matches
