"""Whether an error shows a secret: in its text, in those it came from, in a traceback with every local variable.

The frames of the tests themselves are left out, since the test holds the secret. The rest is searched for every piece
of eight characters of the secret, in each form it may have taken on the way. Addresses of objects are no text of ours,
and are left out: their digits are by chance those of a secret in hex.
"""

from __future__ import annotations

import base64
import json
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

__all__ = ["PIECE", "assert_silent", "error_of", "forms", "pieces", "shown", "without_addresses"]

TESTS = str(Path(__file__).parent.parent)
PIECE = 8
ADDRESS = re.compile(r"(?<= at 0x)[0-9A-Fa-f]{1,16}(?![0-9A-Fa-f])")
"""As Python prints one. What is longer is none."""


def error_of(call: Callable[[], object]) -> Exception:
    """What the call raises."""
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def assert_silent(error: BaseException, *secrets: bytes) -> None:
    """No piece of the secrets is in what the error shows."""
    text = shown(error)
    found = {piece for secret in secrets for form in forms(secret) for piece in pieces(form) if piece in text}
    assert not found, f"{len(found)} pieces of a secret are in:\n{text}"


def shown(error: BaseException) -> str:
    """All that is to be seen of an error, and of those it came from, by one who looks closely."""
    parts: list[str] = []
    for each in chain(error):
        frames = beyond_the_tests(each.__traceback__)
        parts += [str(each), repr(each), repr(each.args), repr(vars(each))]
        parts += traceback.TracebackException(type(each), each, frames, capture_locals=True).format(chain=False)
    return without_addresses("\n".join(parts))


def without_addresses(text: str) -> str:
    return ADDRESS.sub("…", text)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    if error is not None:
        yield error
        yield from chain(error.__cause__)
        if error.__context__ is not error.__cause__:
            yield from chain(error.__context__)


def beyond_the_tests(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(TESTS):
        frames = frames.tb_next
    return frames


def forms(secret: bytes) -> set[str]:
    """What the secret may look like: as text, in the usual encodings, as a list of numbers, as Python prints it."""
    texts = {secret.decode("latin-1"), secret.decode("utf-8", "replace")}
    return {
        *texts,
        *(repr(text)[1:-1] for text in texts),
        *(json.dumps(text, ensure_ascii=escaped)[1:-1] for text in texts for escaped in (True, False)),
        repr(secret)[2:-1],
        quote(secret, safe=""),
        quote(secret),
        secret.hex(),
        secret.hex().upper(),
        ", ".join(str(byte) for byte in secret),
        base64.b32encode(secret).decode().rstrip("="),
        *(text for before in range(3) for text in _base64(secret, before)),
    }


def _base64(secret: bytes, before: int) -> tuple[str, str]:
    """In both alphabets, behind so many other bytes; without the characters at the ends that have bits of others."""
    encoded = base64.b64encode(bytes(before) + secret)
    mine = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6].decode()
    return mine, mine.translate(str.maketrans("+/", "-_"))


def pieces(text: str) -> set[str]:
    return {text[at : at + PIECE] for at in range(len(text) - PIECE + 1)}
