"""What a program needs permission for: as text, of two programs together, and elsewhere than in the usual place."""

from __future__ import annotations

import pytest

from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.errors import InvalidNameError
from nats_proto._jetstream.permissions import to_consume, to_read
from nats_proto._jetstream.stream_config import ExternalStream, StreamConfig, StreamSource
from nats_proto._keyvalue.permissions import to_read_keys, to_write_keys
from nats_proto._keyvalue.subjects import BucketSubjects
from nats_proto._objectstore.names import Subjects
from nats_proto._objectstore.permissions import to_read_objects, to_write_objects
from nats_proto._permissions import Permission, Permissions, permitted
from tests.proto.consuming import Inboxes


def api(**options: str) -> JetStreamApi:
    return JetStreamApi(now=lambda: 0.0, new_inbox=Inboxes(), server_version=lambda: "2.15.1", **options)


def published(permissions: Permissions) -> list[str]:
    return [str(one) for one in permissions.publish]


def test_as_text() -> None:
    assert str(Permissions()) == "permissions: {\n}"
    permissions = Permissions(
        publish=permitted(("a", "put"), ("long.>", "get")), subscribe=permitted(("i", "answers")), allow_responses=True
    )
    assert str(permissions).split("\n") == [
        "permissions: {",
        "  publish: [",
        '    "a"       # put',
        '    "long.>"  # get',
        "  ]",
        "  subscribe: [",
        '    "i"  # answers',
        "  ]",
        "  allow_responses: true",
        "}",
    ]


def test_two_programs_together() -> None:
    one = Permissions(publish=permitted(("a", "put"), ("b", "get")), subscribe=permitted(("i", "answers")))
    other = Permissions(
        publish=permitted(("b", "get"), ("a", "delete")), subscribe=permitted(("i", "answers")), allow_responses=True
    )
    assert one | other == Permissions(
        publish=permitted(("a", "put; delete"), ("b", "get")),
        subscribe=(Permission(subject="i", purpose="answers"),),
        allow_responses=True,
    )


def test_in_another_domain() -> None:
    hub = api(domain="hub")
    for permissions in (
        to_read(hub, "S"),
        to_read_keys(hub, BucketSubjects(hub, StreamConfig(name="KV_B"))),
        to_read_objects(hub, Subjects("O")),
    ):
        assert all(subject.startswith("$JS.hub.API.") for subject in published(permissions))
    keys = published(to_write_keys(hub, BucketSubjects(hub, StreamConfig(name="KV_B"))))
    assert "$JS.hub.API.$KV.B.>" in keys
    assert "$JS.hub.API.DIRECT.GET.KV_B.$KV.B.>" in keys
    objects = published(to_write_objects(hub, Subjects("O")))
    assert {"$O.O.C.>", "$O.O.M.>", "$JS.hub.API.STREAM.PURGE.OBJ_O"} <= {*objects}
    assert {"$JS.ACK.S.C.>", "$JS.ACK.*.*.S.C.>"} <= {*published(to_consume(hub, "S", "C"))}


def test_a_mirror_is_read_here_and_written_there() -> None:
    here = api()
    mirror = StreamSource(name="KV_A", external=ExternalStream(api="$JS.hub.API"))
    subjects = BucketSubjects(here, StreamConfig(name="KV_B", mirror=mirror))
    reading = published(to_read_keys(here, subjects))
    assert "$JS.API.DIRECT.GET.KV_B.$KV.A.>" in reading
    assert not [subject for subject in reading if "KV_A" in subject]
    assert published(to_write_keys(here, subjects))[len(reading) :] == [
        "$JS.hub.API.$KV.A.>",
        "$JS.hub.API.STREAM.MSG.GET.KV_A",
        "$JS.hub.API.STREAM.PURGE.KV_A",
    ]


def test_what_is_no_name() -> None:
    for wrong in (lambda: to_read(api(), "a.b"), lambda: to_consume(api(), "S", "*")):
        with pytest.raises(InvalidNameError):
            wrong()
