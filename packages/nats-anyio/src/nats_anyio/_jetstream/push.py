"""`PushConsumer`: a consumer that delivers by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats_proto._consuming.push_calls import push_reader
from nats_proto._consuming.readers import Source
from nats_proto._jetstream import consumer_calls
from nats_proto._jetstream.names import check_name
from nats_proto.errors import LocalProtocolError

from .reading import OnWarning, Reading, message_maker

if TYPE_CHECKING:
    from nats_proto._consuming.options import OnMissing
    from nats_proto._consuming.push import Push
    from nats_proto._jetstream.consumer_info import ConsumerInfo

    from .._message import ReceivedMessage
    from .caller import Caller
    from .message import JetStreamMessage

__all__ = ["PushConsumer", "PushMessages"]


class PushMessages(Reading["Push[ReceivedMessage, JetStreamMessage]"]):
    """What a push consumer delivers, one message after another, for as long as the program likes.

    It ends with `stop`, with the ``async with`` block, and when the client is closed by its user. What passes by itself
    does not end it: it is told in `warnings`, in the log, and to ``on_warning``, which is called by whoever reads. The
    iteration raises `ConsumerInUseError` when somebody reads the consumer already and it has no ``deliver_group``,
    `ConsumerNotFoundError` and `ConsumerDeletedError` (see ``on_missing``), `JetStreamError` for a pull consumer,
    `ConnectionClosedError`, `PermissionsError`, and what ``on_warning`` raises. For any number of tasks: each message
    goes to one of them.
    """


class PushConsumer:
    """The handle of one push consumer. Made by `Stream.push_consumer`; costs no request.

    Raises `ValueError` for what cannot be a name.
    """

    def __init__(self, caller: Caller, stream: str, name: str) -> None:
        self._caller = caller
        self._api = caller.api
        self._stream = check_name("stream", stream)
        self._name = check_name("consumer", name)
        self._info: ConsumerInfo | None = None

    def __repr__(self) -> str:
        return f"<nats_anyio.PushConsumer {self._name!r} of stream {self._stream!r}>"

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._name

    @property
    def stream_name(self) -> str:
        """The name of its stream."""
        return self._stream

    @property
    def info(self) -> ConsumerInfo:
        """What the server said last about it. `LocalProtocolError` when it was not asked yet: `refresh` asks."""
        if self._info is None:
            raise LocalProtocolError(
                f"consumer {self._name!r}: nothing is known about it yet, refresh() asks the server"
            )
        return self._info

    async def refresh(self, *, timeout: float | None = None) -> ConsumerInfo:
        """Ask for its configuration and state. Raises `ConsumerNotFoundError`."""
        self._info = await self._caller.run(
            consumer_calls.consumer_info(self._api, self._stream, self._name, timeout=timeout)
        )
        return self._info

    def messages(self, *, on_missing: OnMissing = "raise", on_warning: OnWarning | None = None) -> PushMessages:
        """What it delivers. The subject and the queue group are those of its configuration, which is asked for with the
        first message.

        ``on_missing``: ``raise`` when the consumer is gone, ``wait`` for one of this name, or ``recreate`` it: without
        acknowledgements behind the last message that came, else with the start that it had. Raises `ValueError` for
        anything else.
        """
        maker = message_maker(self._caller, Source(self._api, self._stream, self._name, self._info).delivery)

        make = self._caller.making(maker)

        def found(info: ConsumerInfo) -> None:
            self._info = info
            maker.delivery = Source(self._api, self._stream, self._name, info).delivery

        def machine(now: float) -> Push[ReceivedMessage, JetStreamMessage]:
            return push_reader(self._api, self._stream, self._name, make, on_missing=on_missing, found=found, now=now)

        return PushMessages(self._caller.host, machine, self._caller.warned(on_warning))
