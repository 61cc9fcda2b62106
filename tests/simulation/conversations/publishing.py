"""Publishing: what is stored, refused, and known already."""

from __future__ import annotations

from .talk import Talk, conversation


@conversation
def stored_in_order(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b", "s.a")
    t.api("STREAM.INFO.S")


@conversation
def no_stream(t: Talk) -> None:
    t.store("s.a")


@conversation
def with_headers(t: Talk) -> None:
    t.stream(storage="file")
    t.store("s.a", Some="thing")
    t.api("STREAM.MSG.GET.S", seq=1)
    t.api("STREAM.INFO.S")


@conversation
def the_same_id_again(t: Talk) -> None:
    t.stream()
    t.store("s.a", Nats_Msg_Id="one")
    t.store("s.b", "s.c", Nats_Msg_Id="one")
    t.store("s.b", Nats_Msg_Id="two")
    t.api("STREAM.INFO.S")


@conversation
def an_id_is_forgotten(t: Talk) -> None:
    t.stream(duplicate_window=100_000_000)
    t.store("s.a", Nats_Msg_Id="one")
    t.listen("nothing")
    t.silence("nothing", 0.3)
    t.store("s.a", Nats_Msg_Id="one")


@conversation
def expected_stream(t: Talk) -> None:
    t.stream()
    t.store("s.a", Nats_Expected_Stream="S")
    t.store("s.a", Nats_Expected_Stream="T")


@conversation
def expected_last_sequence(t: Talk) -> None:
    t.stream()
    t.store("s.a", Nats_Expected_Last_Sequence=0)
    t.store("s.a", Nats_Expected_Last_Sequence=0)
    t.store("s.a", Nats_Expected_Last_Sequence=1)


@conversation
def expected_last_subject_sequence(t: Talk) -> None:
    t.stream()
    t.store("s.a", Nats_Expected_Last_Subject_Sequence=0)
    t.store("s.b", Nats_Expected_Last_Subject_Sequence=0)
    t.store("s.a", Nats_Expected_Last_Subject_Sequence=0)
    t.store("s.a", Nats_Expected_Last_Subject_Sequence=1)
    t.store("s.b", Nats_Expected_Last_Subject_Sequence=7)


@conversation
def expected_sequence_of_another_subject(t: Talk) -> None:
    t.stream()
    t.store("s.a", "s.b")
    other = "Nats_Expected_Last_Subject_Sequence_Subject"
    t.store("s.c", Nats_Expected_Last_Subject_Sequence=2, **{other: "s.*"})
    t.store("s.c", Nats_Expected_Last_Subject_Sequence=2, **{other: "s.*"})
    t.store("s.c", **{other: "s.a"})


@conversation
def the_sequence_is_checked_before_the_id(t: Talk) -> None:
    t.stream()
    for _ in range(2):
        t.store("s.a", Nats_Msg_Id="one", Nats_Expected_Last_Subject_Sequence=0)


@conversation
def expected_last_id(t: Talk) -> None:
    t.stream()
    t.store("s.a", Nats_Msg_Id="one")
    t.store("s.a", Nats_Msg_Id="two", Nats_Expected_Last_Msg_Id="one")
    t.store("s.a", Nats_Msg_Id="three", Nats_Expected_Last_Msg_Id="one")


@conversation
def the_stream_is_full(t: Talk) -> None:
    t.stream(max_msgs=2, discard="new")
    t.store("s.a", "s.a", "s.a")
    t.api("STREAM.INFO.S")


@conversation
def a_subject_is_full(t: Talk) -> None:
    t.stream(max_msgs_per_subject=1, discard="new", discard_new_per_subject=True)
    t.store("s.a", "s.b", "s.a")


@conversation
def too_large(t: Talk) -> None:
    t.stream(max_msg_size=10)
    t.store("s.a", data=b"123456789")
    t.store("s.a", data=b"1234567890")


@conversation
def old_ones_make_room(t: Talk) -> None:
    t.stream(max_msgs=2)
    t.store("s.a", "s.b", "s.c")
    t.api("STREAM.INFO.S", deleted_details=True, subjects_filter=">")


@conversation
def old_ones_of_a_subject_make_room(t: Talk) -> None:
    t.stream(max_msgs_per_subject=2)
    t.store("s.a", "s.b", "s.a", "s.a")
    t.api("STREAM.INFO.S", deleted_details=True, subjects_filter="s.a")


@conversation
def too_old(t: Talk) -> None:
    t.stream(max_age=200_000_000)
    t.store("s.a")
    t.listen("nothing")
    t.silence("nothing", 0.7)
    t.api("STREAM.INFO.S")
    t.store("s.a")


@conversation
def roll_up(t: Talk) -> None:
    t.stream(allow_rollup_hdrs=True)
    t.store("s.a", "s.b", "s.a")
    t.store("s.a", Nats_Rollup="sub")
    t.api("STREAM.INFO.S")
    t.store("s.c", Nats_Rollup="all")
    t.api("STREAM.INFO.S")


@conversation
def roll_up_is_refused(t: Talk) -> None:
    t.stream()
    t.store("s.a", Nats_Rollup="sub")
    t.store("s.a", Nats_Rollup="all")


# --- batches: servers 2.12 and 2.14 ----------------------------------------------------------------------------------


def batch(t: Talk, name: str, number: int, *, commit: bool = False, **headers: object) -> None:
    fields = {**headers, "Nats-Batch-Id": name, "Nats-Batch-Sequence": number}
    t.ask("s.a", b"%d" % number, {**fields, **({"Nats-Batch-Commit": "1"} if commit else {})})


@conversation
def an_atomic_batch(t: Talk) -> None:
    t.stream(allow_atomic=True)
    batch(t, "A", 1)
    batch(t, "A", 2)
    t.api("STREAM.INFO.S")
    batch(t, "A", 3, commit=True)
    batch(t, "A", 4)
    batch(t, "B", 1, commit=True)
    t.api("STREAM.INFO.S")


@conversation
def an_atomic_batch_with_a_hole(t: Talk) -> None:
    t.stream(allow_atomic=True)
    batch(t, "A", 2)
    for number in (1, 3, 2):
        batch(t, "B", number)
    batch(t, "C", 1)
    batch(t, "C", 1)
    batch(t, "C", 2, commit=True)
    t.api("STREAM.INFO.S")


@conversation
def an_atomic_batch_whose_condition_does_not_hold(t: Talk) -> None:
    t.stream(allow_atomic=True)
    t.store("s.a")
    batch(t, "A", 1, **{"Nats-Expected-Last-Subject-Sequence": 7})
    batch(t, "A", 2, commit=True)
    t.api("STREAM.INFO.S")


@conversation
def streams_without_batches(t: Talk) -> None:
    t.stream()
    batch(t, "A", 1)
    ingest(t, 1, 0)
    t.api("STREAM.INFO.S")


def ingest(t: Talk, number: int, operation: int, *, name: str = "I", gap: str = "ok", answers: int = 1) -> None:
    """One message of a fast ingest with three messages for each acknowledgement."""
    reply = f"in.{name}.3.{gap}.{number}.{operation}.$FI"
    t.listen(reply)
    t.publish("s.a", b"" if operation > 2 else b"%d" % number, reply)
    if answers:
        t.collect(reply, answers)


@conversation
def a_fast_ingest(t: Talk) -> None:
    t.stream(allow_batched=True)
    ingest(t, 1, 0)
    ingest(t, 2, 1, answers=0)
    ingest(t, 3, 1)
    ingest(t, 4, 1, answers=0)
    ingest(t, 4, 4)
    ingest(t, 5, 3)
    ingest(t, 5, 3)
    ingest(t, 1, 0, name="J")
    ingest(t, 2, 2, name="J")
    t.api("STREAM.INFO.S")


@conversation
def a_fast_ingest_with_a_hole(t: Talk) -> None:
    t.stream(allow_batched=True)
    ingest(t, 1, 0)
    ingest(t, 3, 1, answers=2)
    ingest(t, 6, 4, answers=2)
    ingest(t, 6, 4)
    ingest(t, 9, 3, answers=2)
    ingest(t, 5, 1)
    t.api("STREAM.INFO.S")


@conversation
def a_fast_ingest_that_a_hole_ends(t: Talk) -> None:
    t.stream(allow_batched=True)
    for number, operation in ((3, 1), (3, 2), (3, 3), (3, 4)):
        name = f"I{operation}"
        ingest(t, 1, 0, name=name, gap="fail")
        ingest(t, number, operation, name=name, gap="fail", answers=2)
        ingest(t, 4, 1, name=name, gap="fail")
    t.api("STREAM.INFO.S")


@conversation
def a_fast_ingest_whose_number_comes_again(t: Talk) -> None:
    t.stream(allow_batched=True)
    ingest(t, 1, 0)
    ingest(t, 2, 1, answers=0)
    ingest(t, 2, 1, answers=2)
    ingest(t, 3, 0)
    t.api("STREAM.INFO.S")
