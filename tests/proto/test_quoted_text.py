"""Texts as Go quotes them, and the refusals in which servers do."""

from __future__ import annotations

import pytest

from nats_proto import RequestFailed, ServerErrorReceived, SessionStatus
from nats_proto._connection.events import RefusalReceived
from nats_proto._connection.quoted_text import unquote_at
from nats_proto._connection.server_errors import classify_server_error
from nats_proto.errors import PermissionsError
from tests.proto.driver import Wire, World, err

# what Go writes for a text, and the text (a byte that is no UTF-8 is a surrogate escape)
QUOTED: list[tuple[str, str]] = [
    ('""', ""),
    ('"a.b"', "a.b"),
    ('"it\'s"', "it's"),
    (r'"a\"b"', 'a"b'),
    (r'"\""', '"'),
    (r'"a\\"', "a\\"),
    (r'"a\\nb"', "a\\nb"),
    (r'"a\\\"b"', 'a\\"b'),
    (r'"\a\b\f\n\r\t\v"', "\a\b\f\n\r\t\v"),
    (r'"\x00\x1f\x7f"', "\x00\x1f\x7f"),
    (r'"\x80\xff"', "\udc80\udcff"),
    (r'"\u0085\u00a0\u00ad"', "\u0085\u00a0\u00ad"),
    (r'"\u200b\u2028\ufeff\ue000"', "\u200b\u2028\ufeff\ue000"),
    (r'"\ud7ff\ue000\uffff"', "\ud7ff\ue000\uffff"),
    (r'"\U000e0001\U0010ffff\U00010000"', "\U000e0001\U0010ffff\U00010000"),
    (r'"\x41\u0041\U00000041"', "AAA"),
    ('"日本.ä.😀"', "日本.ä.😀"),
    ('"%s %q {}"', "%s %q {}"),
]
NOT_QUOTED = [
    "",
    "a",
    '"',
    '"a',
    "'a'",
    r'"a\"',
    r'"\q"',
    r'"\'"',
    r'"\0"',
    r'"\101"',
    r'"\x"',
    r'"\x1"',
    r'"\xFF"',
    r'"\xg0"',
    r'"\u123"',
    r'"\u12 4"',
    r'"\uDBFF"',
    r'"\ud800"',
    r'"\udfff"',
    r'"\U0000d800"',
    r'"\U00110000"',
    r'"\Uffffffff"',
    r'"\U0010fff"',
    r'"\N{BULLET}"',
]


@pytest.mark.parametrize(("quoted", "text"), QUOTED, ids=[quoted for quoted, _ in QUOTED])
def test_what_go_quotes(quoted: str, text: str) -> None:
    assert unquote_at(quoted, 0) == (text, len(quoted))
    assert unquote_at(f'x{quoted}" using', 1) == (text, 1 + len(quoted))


@pytest.mark.parametrize("text", NOT_QUOTED)
def test_what_go_never_writes(text: str) -> None:
    assert unquote_at(text, 0) is None


@pytest.mark.parametrize(("quoted", "text"), QUOTED, ids=[quoted for quoted, _ in QUOTED])
@pytest.mark.parametrize("sid", [None, 7])
@pytest.mark.parametrize("group", QUOTED[3:6], ids=[quoted for quoted, _ in QUOTED[3:6]])
def test_refusals_name_what_was_asked_for(quoted: str, text: str, sid: int | None, group: tuple[str, str]) -> None:
    behind = "" if sid is None else f' (sid "{sid}")'
    for words, expected in {
        f"Publish to {quoted}": ("publish", text, None, None),
        f"Publish with Reply of {quoted}": ("publish", text, None, None),
        f"Subscription to {quoted}{behind}": ("subscribe", text, None, sid),
        f"Subscription to {quoted} using queue {group[0]}{behind}": ("subscribe", text, group[1], sid),
    }.items():
        error, _ = classify_server_error(f"Permissions Violation for {words}", "s")
        assert isinstance(error, PermissionsError)
        assert (error.operation, error.subject, error.queue, error.sid) == expected
        assert error.text.isprintable()
        assert str(error).isprintable()


def test_a_subject_that_looks_like_the_rest_of_the_text() -> None:
    for inside in ('(sid \\"5\\")', 'using queue \\"q\\"', ' using queue \\"q\\" (sid \\"5\\")'):
        text = f'Permissions Violation for Subscription to "a{inside}" (sid "7")'
        error, _ = classify_server_error(text, "s")
        assert isinstance(error, PermissionsError)
        assert (error.subject, error.queue, error.sid) == ("a" + inside.replace("\\", ""), None, 7)


def test_what_cannot_be_understood_names_nothing() -> None:
    for quoted in NOT_QUOTED:
        error, _ = classify_server_error(f"Permissions Violation for Subscription to {quoted}", "s")
        assert isinstance(error, PermissionsError)
        assert (error.subject, error.queue, error.sid) == ("", None, None)


@pytest.mark.parametrize(
    "hostile",
    [
        '"' * 32_000,
        "\\" * 32_000,
        '\\"' * 16_000,
        '"' + '\\"' * 16_000,
        'for publish "' * 2400,
        '"\\Uffffffff"',
    ],
    ids=lambda text: text[:4],
)
def test_a_hostile_text_names_nothing_of_ours(hostile: str) -> None:
    world = World().ready()
    world.session.request("a")
    sub = world.session.subscribe("a")
    for verb in ("Publish", "Subscription"):
        world.feed(f"-ERR 'Permissions Violation for {verb} to {hostile}'\r\n".encode())
    assert world.session.status is SessionStatus.CONNECTED
    assert world.events_of(RequestFailed) == []
    assert sub.denied is None


SECRET = "invoices2024"


@pytest.mark.parametrize("subject", [SECRET, f"no.{SECRET}.x", f'a"{SECRET}', f"\u0085{SECRET}"], ids=ascii)
def test_what_is_masked_is_matched_all_the_same(subject: str) -> None:
    quoted = subject.replace('"', '\\"').replace("\u0085", "\\u0085")
    world = World(user="accounting", password=SECRET).ready()
    other, token = world.session.request("other"), world.session.request(subject)
    sub = world.session.subscribe(subject, queue=SECRET)
    world.feed(err(f'Permissions Violation for Publish to "{quoted}"'))
    world.feed(b"PONG\r\n")  # behind which it is known how many of these requests were refused
    (failed,) = world.events_of(RequestFailed)
    assert (failed.token, world.session.pending_requests) == (token, 1)
    assert other != token
    world.feed(err(f'Permissions Violation for Subscription to "{quoted}" using queue "{SECRET}"'))
    assert isinstance(sub.denied, PermissionsError)
    for error in (failed.error, sub.denied):
        assert isinstance(error, PermissionsError)
        assert error.subject == subject
        assert SECRET not in f"{error} {error!r} {error.text} {error.args}"
        assert str(error).isprintable()
    assert sub.denied.queue == SECRET


def test_what_concerns_nobody_stays_masked() -> None:
    """The server may say back whatever it was told; that alone makes it nobody's subject."""
    world = World(user="accounting", password=SECRET).ready()
    world.session.request("other")
    world.session.subscribe("other")
    for words in (f'Publish to "{SECRET}"', f'Subscription to "other" using queue "{SECRET}"'):
        world.feed(err(f"Permissions Violation for {words}"))
        (report,) = world.events()
        assert isinstance(report, ServerErrorReceived)
        assert type(report) is ServerErrorReceived
        assert SECRET not in repr((report, vars(report.error)))
    wire = Wire(user="accounting", password=SECRET)
    wire.open()
    refusal = err(f'Permissions Violation for Publish to "{SECRET}"')
    wire.connection.receive_data(refusal, now=wire.now)
    (event,) = wire.connection.batches_received()
    assert isinstance(event, RefusalReceived)
    assert event.subject == SECRET
    assert SECRET not in repr((event, event.plain, vars(event.error)))
    (plain,) = wire.feed(refusal)
    assert type(plain) is ServerErrorReceived
