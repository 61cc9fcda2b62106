"""Lists that come page by page: names and infos of streams and consumers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from .._calls.operation import Operation
from .api_answer import read_answer

if TYPE_CHECKING:
    from .api import JetStreamApi

__all__ = ["Pages"]

T = TypeVar("T")


class Pages(Generic[T]):
    """A list, of which a page is asked for when the one before it was read.

    ``read`` makes the items of a page's JSON object; the second part of each is what makes it one of a kind. A list may
    change while it is read, so an item may come on two pages: it is given once. The end is a page that brings nothing
    new, or the total that the server tells.
    """

    __slots__ = ("_api", "_body", "_offset", "_read", "_seen", "_subject", "_what", "done")

    def __init__(
        self,
        api: JetStreamApi,
        what: str,
        subject: str,
        body: Mapping[str, object],
        read: Callable[[str, Mapping[str, object]], Sequence[tuple[T, str]]],
    ) -> None:
        self._api = api
        self._what = what
        self._subject = subject
        self._body = body
        self._read = read
        self._offset = 0
        self._seen: set[str] = set()
        self.done = False
        """There is no further page."""

    def next_page(self, timeout: float | None) -> Operation[list[T]]:
        """The items of the next page; an empty list when there is none."""
        body = {**self._body, "offset": self._offset} if self._offset else dict(self._body)
        call = self._api.request(
            self._what, self._subject, lambda message: read_answer(self._what, message), body or None
        )
        answer = yield from self._api.call(call, timeout)
        items = self._read(self._what, answer)
        self._offset += len(items)
        total = answer.get("total")
        new = [item for item, name in items if name not in self._seen]
        self._seen.update(name for _, name in items)
        self.done = not new or type(total) is not int or self._offset >= total
        return new
