"""What services, endpoints and groups may be called, and where endpoints listen (ADR-32)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nats_proto._services.names import (
    INHERITED,
    check_description,
    check_name,
    check_queue_group,
    check_version,
    endpoint_subject,
    group_prefix,
    monitor_subject,
)
from nats_proto.errors import InvalidSubjectError
from nats_proto.services import InvalidServiceError, Place


class Text(str):
    """A text whose own methods lie."""

    __slots__ = ()

    def __str__(self) -> str:
        return "good"


@pytest.mark.parametrize("name", ["a", "Orders", "orders-2_B", "0", "-", "x" * 300])
def test_names(name: str) -> None:
    assert check_name("a service", name) == name


def test_a_name_is_kept_as_a_plain_text() -> None:
    assert type(check_name("a service", Text("orders"))) is str
    assert check_name("a service", Text("orders")) == "orders"


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a>", "*", "ä", "a/b", "a\n", "\ud800", "٣"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidServiceError, match="the name of an endpoint must"):
        check_name("an endpoint", name)


SEMVER = [
    *("0.0.0", "1.2.0", "10.20.30", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-0.3.7", "1.0.0-x.7.z.92"),
    *("1.0.0+20130313144700", "1.0.0-beta+exp.sha.5114f85", "1.2.3----RC-SNAPSHOT.12.9.1--.12", "1.2.3--"),
    *("1.2.3+01", "1.2.3-0a.1", "99999999999999999999.999.0"),
]
NO_SEMVER = [
    *("", "1", "1.2", "1.2.3.4", "01.2.3", "1.02.3", "1.2.03", "v1.2.3", "1.2.3-", "1.2.3+", "1.2.3-01", "1.2.3-a..b"),
    *("1.2.3-a.", "1.2.3+a+b", "1.2.3-ä", "1.2.3 ", "-1.2.3", "1.2.3-+a", "1.2.x", "1.2.٣", "1.2.3\n", "1.2.3+a..b"),
    "1.2.3-" + "a" * 300,
]


@pytest.mark.parametrize("version", SEMVER)
def test_versions(version: str) -> None:
    assert check_version(version) == version


@pytest.mark.parametrize("version", NO_SEMVER)
def test_versions_that_are_none(version: str) -> None:
    with pytest.raises(InvalidServiceError, match="Semantic Versioning"):
        check_version(version)


NO_TEXT: list[tuple[Callable[[object], object], str]] = [
    (lambda given: check_name("a service", given), "the name of a service must be str, not bytes"),
    (check_version, "the version of a service must be str, not bytes"),
    (check_description, "description must be str, not bytes"),
    (lambda given: group_prefix("", given), "the name of a group must be str, not bytes"),
    (lambda given: endpoint_subject("", given), "the subject of an endpoint must be str, not bytes"),
    (lambda given: monitor_subject("PING", "a", given), "id must be str, not bytes"),  # type: ignore[arg-type]
    (lambda given: check_queue_group(given, None), "queue group must be str, not bytes"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("check", "text"), NO_TEXT, ids=[text for _, text in NO_TEXT])
def test_what_is_no_text(check: Callable[[object], object], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        check(b"orders")


def test_a_description_is_utf8() -> None:
    assert check_description("für alle") == "für alle"
    with pytest.raises(InvalidServiceError, match="lone surrogate"):
        check_description("\ud800")


@pytest.mark.parametrize(
    ("given", "inherited", "counts"),
    [("a", "b", "a"), (INHERITED, "b", "b"), (INHERITED, None, None), (None, "b", None)],
)
def test_the_nearest_queue_group_counts(given: str | None, inherited: str | None, counts: str | None) -> None:
    assert check_queue_group(given, inherited) == counts


@pytest.mark.parametrize("queue", ["", "a b", "a\r\n"])
def test_queue_groups_that_are_none(queue: str) -> None:
    with pytest.raises(InvalidSubjectError, match="queue group"):
        Place().group("a", queue)


@pytest.mark.parametrize(
    ("prefix", "name", "made"),
    [("", "v1", "v1."), ("v1.", "a.b", "v1.a.b."), ("v1.", "", "v1."), ("", "", ""), ("", "*", "*.")],
)
def test_groups(prefix: str, name: str, made: str) -> None:
    assert group_prefix(prefix, name) == made


@pytest.mark.parametrize("name", [".", "a.", ".a", "a b", "a\r\nPUB"])
def test_groups_that_are_none(name: str) -> None:
    with pytest.raises(InvalidSubjectError):
        group_prefix("v1.", name)


@pytest.mark.parametrize("name", [">", "a.>"])
def test_nothing_can_stand_behind_a_rest(name: str) -> None:
    with pytest.raises(InvalidServiceError, match="must not have '>'"):
        group_prefix("v1.", name)


def test_groups_of_groups() -> None:
    inner = Place(queue_group="q").group("v1", "workers").group("admin")
    assert inner == Place("v1.admin.", "workers")
    assert inner.group("x", None).queue_group is None


@pytest.mark.parametrize("subject", ["create", "a.*.b", "a.>", ">", "$SRV2.a", "a.$SRV.b"])
def test_subjects_of_endpoints(subject: str) -> None:
    assert endpoint_subject("v1.", subject) == f"v1.{subject}"


@pytest.mark.parametrize("subject", ["", "a..b", "a b", ">.a", "a*"])
def test_subjects_that_are_none(subject: str) -> None:
    with pytest.raises(InvalidSubjectError):
        endpoint_subject("", subject)


@pytest.mark.parametrize(("prefix", "subject"), [("", "$SRV"), ("", "$SRV.PING"), ("$SRV.", "a")])
def test_no_endpoint_listens_where_monitors_ask(prefix: str, subject: str) -> None:
    with pytest.raises(InvalidServiceError, match=r"below \$SRV"):
        endpoint_subject(prefix, subject)


@pytest.mark.parametrize(
    ("name", "instance", "subject"),
    [(None, None, "$SRV.PING"), ("orders", None, "$SRV.PING.orders"), ("orders", "X1", "$SRV.PING.orders.X1")],
)
def test_where_monitors_ask(name: str | None, instance: str | None, subject: str) -> None:
    assert monitor_subject("PING", name, instance) == subject


@pytest.mark.parametrize(
    ("name", "instance", "error"),
    [
        (None, "X", ValueError),
        ("a.b", None, InvalidServiceError),
        ("", None, InvalidServiceError),
        ("a", "X.Y", InvalidServiceError),
        ("a", "", InvalidSubjectError),
        ("a", "*", InvalidSubjectError),
        ("a", "X Y", InvalidSubjectError),
    ],
)
def test_monitors_that_cannot_ask(name: str | None, instance: str | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        monitor_subject("PING", name, instance)
