"""What a peer was told and says back is not shown; what it says otherwise is."""

from __future__ import annotations

from typing import Any

import pytest

from nats_proto import ConnectionEnded, Secret, ServerErrorReceived
from nats_proto._connection.confidence import Confidence
from nats_proto.errors import PermissionsError
from nats_proto.nkeys import KeyPair, Prefix
from tests.proto.driver import PONG, Wire, err, info

TOKEN = "a1ocpXCuqxATgf"
USER = KeyPair.create(Prefix.USER, bytes(range(32)))


@pytest.mark.parametrize(
    ("told", "text", "shown"),
    [
        ([], "Authorization Violation", "Authorization Violation"),
        ([TOKEN], "Authorization Violation", "Authorization Violation"),
        ([TOKEN], TOKEN, "***"),
        ([TOKEN], f"it was {TOKEN}!", "it was ***!"),
        ([TOKEN], f"{TOKEN}{TOKEN}", "***"),
        ([TOKEN], f"{TOKEN} {TOKEN}", "*** ***"),
        ([TOKEN], f"cut: {TOKEN[3:]}", "cut: ***"),
        ([TOKEN], f"cut: {TOKEN[:9]}…", "cut: ***…"),
        ([TOKEN], f"seven: {TOKEN[:7]}", f"seven: {TOKEN[:7]}"),
        ([TOKEN, "qwertzuiop"], f"{TOKEN}, qwertzuiop", "***, ***"),
        (["short"], "short", "short"),
        (['quo"te\\and back'], '{"pass":"quo\\"te\\\\and back"}', '{"pass":"***"}'),
        (["pässwörd-ä"], repr("pässwörd-ä".encode()), "b'***'"),
        (["pässwörd-ä"], ascii("pässwörd-ä"), "'***'"),
        (["pässwörd-ä"], "pässwörd-ä", "***"),
        ([""], "nothing", "nothing"),
    ],
)
def test_masked(told: list[str], text: str, shown: str) -> None:
    confidence = Confidence()
    confidence.tell(None, *map(Secret, told))
    assert confidence.masked(text) == shown


def test_what_is_told_later_counts_too() -> None:
    confidence = Confidence()
    confidence.tell(Secret("the first one"))
    assert confidence.masked("the first one, the second one") == "***, the second one"
    confidence.tell(Secret("the second one"))
    assert "second" not in confidence.masked("the first one, the second one")


def test_an_error_is_masked_in_all_it_has() -> None:
    confidence = Confidence()
    confidence.tell(Secret(TOKEN))
    error = PermissionsError(f"said {TOKEN}", text=TOKEN, subject=f"a.{TOKEN}", queue=f"q.{TOKEN}")
    confidence.mask(error)
    assert (str(error), error.text, error.subject, error.queue) == ("said ***", "***", "a.***", "q.***")
    assert error.operation == "publish"


def greeted(**options: Any) -> Wire:
    wire = Wire(**options)
    wire.feed(info(nonce="PXoWU7zWAMt75FY"))
    wire.written()
    return wire


def ended(wire: Wire, said: bytes) -> str:
    (event,) = [event for event in wire.feed(said) if isinstance(event, ConnectionEnded)]
    assert TOKEN not in repr(vars(event.error))
    return str(event.error)


@pytest.mark.parametrize(
    "options",
    [
        {"token": TOKEN},
        {"user": "me", "password": TOKEN},
        {"url": f"nats://me:{TOKEN}@a"},
        {"url": f"nats://{TOKEN}@a"},
    ],
    ids=["token", "password", "password-in-url", "token-in-url"],
)
def test_on_a_connection(options: dict[str, Any]) -> None:
    assert ended(greeted(**options), err(f"Authorization Violation of {TOKEN}")).endswith("Violation of ***")
    assert ended(greeted(**options), TOKEN.encode() + b"\r\n").endswith("unknown operation b'***'")
    wire = greeted(**options)
    wire.feed(PONG)
    (report,) = wire.feed(err(f'Permissions Violation for Publish to "x.{TOKEN}"'))
    assert isinstance(report, ServerErrorReceived)
    assert isinstance(report.error, PermissionsError)
    assert report.error.subject == "x.***"
    assert report.error.text == 'Permissions Violation for Publish to "x.***"'
    assert TOKEN not in f"{report.error} {report.error!r} {report!r}"


def test_a_name_is_left_alone() -> None:
    """It may be in subjects, and a refusal of one must reach who used it."""
    wire = greeted(user="billing-service", password=TOKEN)
    wire.feed(PONG)
    (report,) = wire.feed(err('Permissions Violation for Subscription to "_INBOX_billing-service.>"'))
    assert isinstance(report, ServerErrorReceived)
    assert isinstance(report.error, PermissionsError)
    assert report.error.subject == "_INBOX_billing-service.>"


def test_signature_and_jwt() -> None:
    jwt = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJ4In0aaaaaaaa.c2lnc2lnc2ln"
    creds = (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{USER.seed.reveal()}\n------END USER NKEY SEED------\n"
    )
    wire = Wire(credentials=creds)
    wire.feed(info(nonce="PXoWU7zWAMt75FY"))
    line = wire.written()
    signature = line[line.index(b'"sig":"') + 7 :][:86].decode()
    text = ended(wire, err(f"{jwt} / {signature} / bad"))
    assert text.endswith("said: *** / *** / bad")
