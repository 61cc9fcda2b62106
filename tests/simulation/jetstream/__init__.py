"""A model of one account's JetStream, in virtual time: what a server answers, and what it then does by itself.

Theory of operation
-------------------
`JetStream` is told of every message that is published (`receive`), and of the time (`next_timeout`, `handle_timeout`).
What it sends is given by `take`, in order. It asks one question: whether anybody is subscribed to a subject. It has no
I/O, no clock and no chance of its own, so tables, property tests and the simulated world can all use it.

What it does was read off real servers, and a test holds it to them: the same conversations with both, and the same
answers (`tests/simulation/test_jetstream_model.py`). Where they differ the model is wrong. The parts:

    JetStream (account.py) ─┬─ StreamApi, ConsumerApi    answers on $JS.API
                            └─ ModelStream (stream.py)   messages, publishing, duplicates
                                 ├─ Batches (batches.py)         several messages together, streams of messages
                                 └─ ModelConsumer (consumer.py)   what was delivered, acknowledged, is to come again
                                      ├─ PullQueue (pulls.py)     requests that wait, their statuses, pins
                                      └─ PushState (push.py)      flow control, heart-beats

What goes wrong is asked for by its methods: a leader that leaves, a restart, what is lost on the way.
"""

from .account import JetStream
from .wire import Sent, block_of, headers_of

__all__ = ["JetStream", "Sent", "block_of", "headers_of"]
