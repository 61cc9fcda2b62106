"""The tree of errors: complete, exported, each with an outcome, none with a secret or an endless text."""

from __future__ import annotations

import inspect
import pickle

import pytest

from nats_proto import errors
from nats_proto.errors import NATSError, NATSTimeoutError

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]

OUTCOMES = {
    "RemoteProtocolError": "unknown",
    "HeaderError": "unknown",
    "WebSocketError": "unknown",
    "TransportError": "unknown",
    "ConnectionLostError": "unknown",
    "StaleConnectionError": "unknown",
    "NATSTimeoutError": "unknown",
    "ServerError": "unknown",
    "DefectError": "unknown",
    "MaxPayloadViolationError": "unknown",
    "MaxSubscriptionsError": "unknown",
}
"""Where it may have happened all the same. Everywhere else it certainly did not."""


def test_every_class_is_exported() -> None:
    assert sorted(errors.__all__) == sorted(kind.__name__ for kind in CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_belongs_to_the_tree_and_says_how_it_ended(kind: type[NATSError]) -> None:
    assert issubclass(kind, NATSError)
    assert kind.outcome == OUTCOMES.get(kind.__name__, "failed")
    assert kind.__doc__


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        ("NATSTimeoutError", TimeoutError),
        ("ConfigurationError", ValueError),
        ("InvalidURLError", ValueError),
        ("InvalidSubjectError", ValueError),
        ("InvalidHeaderError", ValueError),
        ("MaxPayloadError", ValueError),
        ("MaxControlLineError", ValueError),
    ],
)
def test_who_does_not_know_us_may_catch_the_builtin(kind: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(errors, kind), builtin)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_can_be_sent_to_another_process(kind: type[NATSError]) -> None:
    """As pools of processes do with what a worker has raised: one that cannot be read there breaks the pool."""
    required = [
        name for name, each in inspect.signature(kind.__init__).parameters.items() if each.default is each.empty
    ]
    extra = [name for name in required if name not in ("self", "message", "args", "kwargs")]
    error = kind("what happened", *extra)
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is kind
    assert str(copied) == str(error)
    assert vars(copied) == vars(error)


def test_an_authentication_error_is_any_of_its_kinds() -> None:
    kinds = {kind.__name__ for kind in CLASSES if issubclass(kind, errors.AuthenticationError)}
    assert kinds == {
        "AuthenticationError",
        "AuthorizationError",
        "AuthenticationExpiredError",
        "AuthenticationRevokedError",
        "AccountAuthenticationExpiredError",
    }


def test_fields() -> None:
    failure = errors.TransportError("refused")
    assert errors.NoServersError("none", (("nats://a", failure),)).attempts == (("nats://a", failure),)
    assert errors.NoServersError("none").attempts == ()
    assert errors.NoRespondersError("nobody", "price").subject == "price"
    assert errors.ServerError("server said: x", text="x").text == "x"
    refused = errors.PermissionsError("no", text="t", operation="subscribe", subject="s", queue="q")
    assert (refused.text, refused.operation, refused.subject, refused.queue) == ("t", "subscribe", "s", "q")
    assert errors.PermissionsError("no").operation == "publish"


def test_a_timeout_tells_its_own_outcome() -> None:
    usual, unsent = NATSTimeoutError("text"), NATSTimeoutError("text", outcome="failed")
    assert (usual.outcome, unsent.outcome, NATSTimeoutError.outcome) == ("unknown", "failed", "unknown")
    assert (str(unsent), unsent.args) == ("text", ("text",))
    copied = pickle.loads(pickle.dumps(unsent))
    assert (type(copied), copied.args, copied.outcome) == (NATSTimeoutError, ("text",), "failed")
