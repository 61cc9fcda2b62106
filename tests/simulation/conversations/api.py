"""Streams: made, changed, listed, emptied."""

from __future__ import annotations

from .talk import Talk, conversation


@conversation
def made_twice(t: Talk) -> None:
    t.stream()
    t.stream()
    t.stream(max_msgs=5)


@conversation
def made_with_everything_usual(t: Talk) -> None:
    t.api("STREAM.CREATE.S", name="S")
    t.api("STREAM.INFO.S")


@conversation
def made_under_another_name(t: Talk) -> None:
    t.api("STREAM.CREATE.T", name="S", subjects=["s"])


@conversation
def made_from_nonsense(t: Talk) -> None:
    t.ask("$JS.API.STREAM.CREATE.S", b"nonsense")


@conversation
def made_with_too_many_replicas(t: Talk) -> None:
    t.stream(num_replicas=3)


@conversation
def subjects_overlap(t: Talk) -> None:
    t.stream()
    t.stream("T", subjects=["s.a"])
    t.stream("T", subjects=["t.a"])
    t.api("STREAM.UPDATE.T", name="T", storage="memory", subjects=["s.a.b"])


@conversation
def changed(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.c")
    t.api("STREAM.UPDATE.S", name="S", storage="memory", subjects=["s.>", "other"], max_msgs=2)
    t.api("STREAM.UPDATE.S", name="S", storage="file", subjects=["s.>"])
    t.api("STREAM.UPDATE.T", name="T", storage="file", subjects=["t.>"])
    t.api("STREAM.INFO.S")


@conversation
def not_there(t: Talk) -> None:
    for call in ("INFO", "DELETE", "PURGE"):
        t.api(f"STREAM.{call}.S")
    t.api("STREAM.MSG.GET.S", seq=1)
    t.api("STREAM.MSG.DELETE.S", seq=1)
    t.api("CONSUMER.NAMES.S")
    t.api("CONSUMER.INFO.S.c")
    t.consumer()


@conversation
def gone(t: Talk) -> None:
    t.stream()
    t.consumer()
    t.pull("a", expires=1_000_000_000)
    t.api("STREAM.DELETE.S")
    t.collect("a", 1)
    t.api("STREAM.INFO.S")
    t.store("s.a")
    t.stream()


@conversation
def listed(t: Talk) -> None:
    t.api("STREAM.NAMES")
    t.api("STREAM.LIST")
    t.stream("B")
    t.stream("A")
    t.api("STREAM.NAMES")
    t.api("STREAM.NAMES", subject="b.one")
    t.api("STREAM.NAMES", subject="c.one")
    t.api("STREAM.NAMES", subject=">")
    t.api("STREAM.NAMES", offset=1)
    t.api("STREAM.LIST")


@conversation
def emptied(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.a", "s.b", "s.a")
    t.api("STREAM.PURGE.S", filter="s.b")
    t.api("STREAM.PURGE.S", seq=3)
    t.api("STREAM.PURGE.S", keep=1)
    t.api("STREAM.PURGE.S", seq=3, keep=1)
    t.api("STREAM.INFO.S")
    t.api("STREAM.PURGE.S")
    t.api("STREAM.INFO.S")
    t.store("s.a")


@conversation
def emptying_is_refused(t: Talk) -> None:
    t.stream(deny_purge=True, deny_delete=True)
    t.store("s.a")
    t.api("STREAM.PURGE.S")
    t.api("STREAM.MSG.DELETE.S", seq=1)


@conversation
def one_is_taken_out(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.c")
    t.api("STREAM.MSG.DELETE.S", seq=2)
    t.api("STREAM.MSG.DELETE.S", seq=2)
    t.api("STREAM.INFO.S", deleted_details=True)
    t.api("STREAM.MSG.DELETE.S", seq=1)
    t.api("STREAM.INFO.S")


@conversation
def one_is_read(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.a")
    t.store("s.c", With="headers")
    for fields in (
        {"seq": 2}, {"seq": 4}, {"seq": 9}, {"last_by_subj": "s.a"}, {"last_by_subj": "s.*"}, {"last_by_subj": "x"},
        {"next_by_subj": "s.a", "seq": 2}, {"next_by_subj": "s.a"}, {"next_by_subj": "s.b", "seq": 3},
        {"start_time": "2000-01-01T00:00:00Z"}, {"seq": 1, "last_by_subj": "s.a"}, {}, {"seq": 1, "batch": 2},
    ):  # fmt: skip
        t.api("STREAM.MSG.GET.S", fields)
