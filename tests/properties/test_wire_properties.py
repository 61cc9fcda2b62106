"""The wire's laws, over generated streams: splits do not matter, what was written is read, hostile bytes stay bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nats_proto import ErrFrame, Frame, Headers, InfoFrame, Message, Parser, PingFrame, PublishFrame, Role, Status
from nats_proto._wire.headers import encode_header_block, encode_status_block, parse_header_block
from nats_proto._wire.subjects import subject_matches, validate_subject, validate_subscription_subject
from nats_proto.errors import HeaderError, InvalidHeaderError, InvalidSubjectError, RemoteProtocolError
from nats_proto.testing import (
    chunked,
    encode_frame,
    header_names,
    header_values,
    headers,
    messages,
    subjects,
    subscription_subjects,
)
from tests.properties.streams import FRAMES, LIMITS, good, hostile

BOTH_TWINS = pytest.mark.usefixtures("twin")
ROLES = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)


def parse(parser: Parser, pieces: list[bytes]) -> tuple[list[Frame], str | None]:
    frames = [frame for piece in pieces for frame in parser.receive_data(piece)]
    return frames, None if parser.error is None else str(parser.error)


@BOTH_TWINS
@ROLES
@given(data=st.data())
def test_what_was_written_is_read_however_it_is_cut(role: Role, data: st.DataObject) -> None:
    frames = data.draw(st.lists(FRAMES[role], max_size=6))
    stream = b"".join(map(encode_frame, frames))
    assert parse(Parser(role), data.draw(chunked(stream))) == (frames, None)


@BOTH_TWINS
@ROLES
@given(data=st.data())
def test_canonical_streams_are_written_again_as_they_were(role: Role, data: st.DataObject) -> None:
    stream = data.draw(good(role))
    frames, error = parse(Parser(role), [stream])
    assert error is None
    assert b"".join(map(encode_frame, frames)) == stream


@BOTH_TWINS
@ROLES
@given(data=st.data())
def test_hostile_bytes_give_frames_then_one_fault_and_nothing_after(role: Role, data: st.DataObject) -> None:
    stream = data.draw(hostile())
    limits = data.draw(st.sampled_from([{}, LIMITS]))
    parser = Parser(role, **limits)
    whole = parse(parser, [stream])
    if parser.error is not None:
        assert type(parser.error) is RemoteProtocolError
        assert str(parser.error).isprintable()
        assert len(str(parser.error)) < 400
        fault = parser.error
        assert parser.receive_data(b"PING\r\n") == []
        assert parser.error is fault
    for frame in whole[0]:
        if isinstance(frame, (Message, PublishFrame)):
            _ = frame.headers
        if isinstance(frame, InfoFrame):
            assert (frame.info is None) is (frame.error is not None)
        repr(frame)
    cut = Parser(role, **limits)
    assert parse(cut, data.draw(chunked(stream))) == whole
    cut.reset()
    assert parse(cut, [b"PING\r\n"]) == ([PingFrame()], None)


@BOTH_TWINS
@ROLES
@given(data=st.data())
def test_a_prefix_gives_no_frame_that_the_whole_does_not_give(role: Role, data: st.DataObject) -> None:
    stream = data.draw(hostile() | good(role))
    frames, error = parse(Parser(role), [stream])
    at = data.draw(st.integers(0, len(stream)))
    first, first_error = parse(Parser(role), [stream[:at]])
    assert first == frames[: len(first)]
    if first_error is not None:
        assert (first, first_error) == (frames, error)


@BOTH_TWINS
@given(st.lists(messages(), min_size=1, max_size=4), st.integers(1, 40))
def test_messages_do_not_change_with_the_callers_buffer(sent: list[Message], size: int) -> None:
    stream = b"".join(map(encode_frame, sent))
    parser = Parser(Role.CLIENT)
    buffer = bytearray(size)
    got: list[Frame] = []
    for at in range(0, len(stream), size):
        piece = stream[at : at + size]
        buffer[: len(piece)] = piece
        got += parser.receive_data(memoryview(buffer)[: len(piece)])
        buffer[:] = b"\n" * size
    parser.receive_data(b"MSG other 9 3\r\nxyz\r\n" * 3)
    assert got == sent


@given(headers(min_size=1))
@example(Headers([("A", "1"), ("a", "ä"), ("A", ""), ("B", "x: y"), ("A", "1")]))
def test_headers_come_back(sent: Headers) -> None:
    block = encode_header_block(sent)
    assert block is not None
    parsed = parse_header_block(block)
    assert (parsed.error, parsed.status) == (None, None)
    assert list(parsed.headers.items()) == list(sent.items())
    assert parsed.headers == sent


@given(st.integers(100, 999), header_values(), headers())
def test_status_comes_back(code: int, description: str, sent: Headers) -> None:
    parsed = parse_header_block(encode_status_block(code, description, sent))
    assert (parsed.error, parsed.status, parsed.headers) == (None, Status(code, description), sent)


HEADER_PIECES = st.sampled_from(
    [
        b"NATS/1.0",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"A",
        b":",
        b" ",
        b"\t",
        b" 503",
        b" 5030",
        b"1",
        b"\x00",
        b"\xff",
    ]
)


@given(st.lists(HEADER_PIECES | st.binary(max_size=4), max_size=20).map(b"".join))
def test_no_header_block_raises(pieces: bytes) -> None:
    for block in (pieces, b"NATS/1.0" + pieces + b"\r\n\r\n"):
        parsed = parse_header_block(block)
        assert parsed.error is None or type(parsed.error) is HeaderError
        assert parsed.status is None or 0 <= parsed.status.code <= 999
        for name, value in parsed.headers.items():
            assert name
            for char in "\r\n\0":
                assert char not in name + value
            assert not set(name) & set(": \t")
        if len(parsed.headers):
            try:
                again = encode_header_block(parsed.headers)
            except InvalidHeaderError:
                continue
            assert again is not None
            assert parse_header_block(again).headers == parsed.headers


# --- headers against a plain list of lines ---------------------------------------------------------------------------

NAMES = st.sampled_from(["A", "B", "a"]) | header_names()
CHANGES = st.one_of(
    st.tuples(st.just("add"), NAMES, header_values()),
    st.tuples(st.just("set"), NAMES, header_values()),
    st.tuples(st.just("delete"), NAMES, st.just("")),
)


@given(st.lists(CHANGES, max_size=12))
def test_headers_are_a_list_of_lines(changes: list[tuple[str, str, str]]) -> None:
    real = Headers()
    model: list[tuple[str, str]] = []
    for change, name, value in changes:
        at = next((index for index, line in enumerate(model) if line[0] == name), None)
        if change == "add" or (change == "set" and at is None):
            model.append((name, value))
        elif change == "set" and at is not None:
            model = [*model[:at], (name, value), *(line for line in model[at:] if line[0] != name)]
        else:
            model = [line for line in model if line[0] != name]
        if change == "add":
            real.add(name, value)
        elif change == "set":
            real[name] = value
        else:
            real.delete(name)
        assert list(real.items()) == model
        assert len(real) == len(model)
        assert list(real) == list(dict.fromkeys(line[0] for line in model))
        assert real.values(name) == [line[1] for line in model if line[0] == name]
        assert real == Headers(model)
        assert real.copy() == real


# --- subjects --------------------------------------------------------------------------------------------------------


def naive_match(pattern: list[str], subject: list[str]) -> bool:
    if not pattern or not subject:
        return pattern == subject
    if pattern == [">"]:
        return True
    return pattern[0] in ("*", subject[0]) and naive_match(pattern[1:], subject[1:])


FEW_TOKENS = st.lists(st.sampled_from(["a", "b", "ä"]), min_size=1, max_size=4)
FEW_PATTERNS = st.builds(
    lambda tokens, last: [*tokens, *last],
    st.lists(st.sampled_from(["a", "b", "ä", "*"]), max_size=4),
    st.sampled_from([[">"], ["*"], ["a"]]),
)


@given(FEW_PATTERNS, FEW_TOKENS)
def test_matching_is_the_naive_matching(pattern: list[str], subject: list[str]) -> None:
    assert subject_matches(".".join(pattern), ".".join(subject)) is naive_match(pattern, subject)


@given(subscription_subjects(), subjects())
def test_matching_of_any_text(pattern: str, subject: str) -> None:
    validate_subscription_subject(pattern)
    validate_subject(subject)
    assert subject_matches(pattern, subject) is naive_match(pattern.split("."), subject.split("."))
    assert subject_matches(subject, subject)


def naive_subject(text: str, *, wildcards: bool) -> bool:
    tokens = text.split(".")
    if any(char <= " " or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in text) or not all(tokens):
        return False
    if not wildcards:
        return not {"*", ">"} & set(tokens)
    plain = [token for token in tokens if token != "*"]
    if tokens[-1] == ">":
        plain.pop()
    return not any(set(token) & set("*>") for token in plain)


@given(st.text(st.sampled_from("ab.*> \t\r\n\x00\x7fä\ud800"), max_size=6) | st.text(max_size=6))
def test_validation_is_the_naive_validation(text: str) -> None:
    for validate, wildcards in ((validate_subject, False), (validate_subscription_subject, True)):
        try:
            validate(text)
            accepted = True
        except InvalidSubjectError:
            accepted = False
        assert accepted is naive_subject(text, wildcards=wildcards)


@given(st.text(max_size=30))
def test_error_texts_of_a_server_arrive(text: str) -> None:
    line = b"-ERR '" + text.replace("\r", "").replace("\n", "").encode("utf-8", "surrogatepass") + b"'\r\n"
    [frame] = Parser(Role.CLIENT).receive_data(line)
    assert isinstance(frame, ErrFrame)
