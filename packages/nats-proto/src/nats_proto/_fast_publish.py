"""What programs publish nearly always, written with as little work as Python allows.

It takes publishes that are certainly right: a subject that was checked before, a payload that is ``bytes`` and not
large, no headers. It leaves everything else to the strict path of the encoder, which decides what that is.
"""

from __future__ import annotations

from ._headers import HeadersLike
from ._subjects import encode_reply

__all__ = ["FastPublish"]

_SIZES = len("H") + 2 * (len(" ") + 19) + len(b"\r\n")
"""What can be added to the beginning of a PUB at most; shorter ones need no look at the finished line."""


class FastPublish:
    """The base of an encoder, which says what is allowed (`_limit`) and has the strict path (`_publish_strictly`)."""

    __slots__ = ("_heads", "_largest_payload", "_longest_head")

    def __init__(self) -> None:
        self._heads: dict[str, bytes] = {}
        """The beginnings of PUB for subjects that were checked. The strict path fills it and keeps it small."""
        self._limit(0, -1)

    def _limit(self, longest_line: int, largest_payload: int) -> None:
        """Up to which lengths (bytes, both inclusive) nothing else has to be looked at."""
        self._longest_head = longest_line - _SIZES
        self._largest_payload = largest_payload

    def publish(
        self,
        subject: str,
        data: bytes | bytearray | memoryview,
        reply: str | None = None,
        headers: HeadersLike | None = None,
    ) -> bytes | tuple[bytes, bytes, bytes]:
        """``PUB``, or ``HPUB`` when there are header lines. From 64 KiB of payload on: (head, payload, CRLF).

        Raises `InvalidSubjectError`, `InvalidHeaderError`, `MaxControlLineError`, `MaxPayloadError` (headers and
        payload together), `HeadersNotSupportedError`; `TypeError` for a payload that is no bytes (text has to be
        encoded by its owner, who knows how).
        """
        if type(subject) is str and type(data) is bytes and headers is None and (head := self._heads.get(subject)):
            if reply is not None:
                head = b"%b%b " % (head, encode_reply(reply))
            size = len(data)
            if size <= self._largest_payload and len(head) <= self._longest_head:
                return b"%b%d\r\n%b\r\n" % (head, size, data)
        return self._publish_strictly(subject, data, reply, headers)

    def _publish_strictly(
        self,
        subject: str,
        data: bytes | bytearray | memoryview,
        reply: str | None,
        headers: HeadersLike | None,
    ) -> bytes | tuple[bytes, bytes, bytes]:
        raise NotImplementedError
