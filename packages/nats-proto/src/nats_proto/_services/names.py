"""What services, endpoints and groups may be called, and where endpoints listen (ADR-32).

Names are tokens of subjects. What cannot be one is refused before anything is subscribed, with the character that is
the reason.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from .._limits import shown
from .._wire.subjects import encode_queue, encode_subject, encode_subscription_subject
from .errors import InvalidServiceError

__all__ = [
    "DEFAULT_QUEUE_GROUP",
    "INHERITED",
    "PREFIX",
    "Inherited",
    "check_description",
    "check_name",
    "check_queue_group",
    "check_version",
    "endpoint_subject",
    "group_prefix",
    "monitor_subject",
]

PREFIX: Final = "$SRV"
"""What all subjects begin with on which services answer to monitors. No endpoint may listen there."""
DEFAULT_QUEUE_GROUP: Final = "q"
"""The queue group of endpoints, if nobody says otherwise. So each request goes to one instance of a service."""

_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]").search
_NUMBER: Final = re.compile(r"0|[1-9][0-9]*").fullmatch
_IDENTIFIER: Final = re.compile(r"[0-9A-Za-z-]+").fullmatch
_DIGITS: Final = re.compile(r"[0-9]+").fullmatch
_MAX_VERSION: Final = 255


class Inherited(Enum):
    """The queue group that was not said: that of the group, or else of the service, counts."""

    INHERITED = "inherited"


INHERITED: Final = Inherited.INHERITED


def check_name(what: str, name: object) -> str:
    """The name of ``what``, a service or an endpoint: letters, digits, ``-`` and ``_`` of ASCII.

    Raises `InvalidServiceError`; `TypeError` when it is no ``str``.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of {what} must be str, not {type(name).__name__}")
    plain = str.__str__(name)
    if not plain:
        raise InvalidServiceError(f"the name of {what} must not be empty")
    wrong = _NOT_IN_A_NAME(plain)
    if wrong is not None:
        raise InvalidServiceError(
            f"the name of {what} must have nothing but letters, digits, '-' and '_', not {wrong[0]!a}: {plain[:64]!a}"
        )
    return plain


def check_version(version: object) -> str:
    """A version as Semantic Versioning 2.0.0 has it, such as ``1.2.0`` or ``1.2.0-rc.1+b7``.

    Raises `InvalidServiceError`; `TypeError` when it is no ``str``.
    """
    if not isinstance(version, str):
        raise TypeError(f"the version of a service must be str, not {type(version).__name__}")
    plain = str.__str__(version)
    rest, plus, build = plain.partition("+")
    core, dash, early = rest.partition("-")
    numbers = core.split(".")
    if (
        len(plain) > _MAX_VERSION
        or len(numbers) != 3
        or not all(map(_NUMBER, numbers))
        or (dash and not all(_is_early(one) for one in early.split(".")))
        or (plus and not all(map(_IDENTIFIER, build.split("."))))
    ):
        raise InvalidServiceError(
            f"the version of a service must be as Semantic Versioning has it, such as '1.2.0', not {shown(plain)}"
        )
    return plain


def _is_early(identifier: str) -> bool:
    """Whether it may stand behind the dash: a number has no leading zero there."""
    if _DIGITS(identifier):
        return _NUMBER(identifier) is not None
    return _IDENTIFIER(identifier) is not None


def check_description(description: object) -> str:
    """What is said about a service. Raises `TypeError`, `InvalidServiceError` for what is no UTF-8."""
    if not isinstance(description, str):
        raise TypeError(f"description must be str, not {type(description).__name__}")
    try:
        description.encode()
    except UnicodeEncodeError:
        raise InvalidServiceError("description has a lone surrogate, which is no UTF-8") from None
    return str.__str__(description)


def check_queue_group(queue_group: str | Inherited | None, inherited: str | None) -> str | None:
    """The queue group that counts. None: no group, each instance gets each request. Raises `InvalidSubjectError`."""
    if isinstance(queue_group, Inherited):
        return inherited
    if queue_group is not None:
        encode_queue(queue_group)
    return queue_group


def group_prefix(prefix: str, name: object) -> str:
    """The prefix of a group inside another one (or in none: ``""``), with a dot at its end.

    The name is a subject, maybe with ``*``, or empty. Raises `InvalidSubjectError`; `InvalidServiceError` for a ``>``,
    behind which nothing could stand; `TypeError` when it is no ``str``.
    """
    if name == "":
        return prefix
    if not isinstance(name, str):
        raise TypeError(f"the name of a group must be str, not {type(name).__name__}")
    made = f"{prefix}{name}"
    encode_subscription_subject(made)
    if made.endswith(">"):
        raise InvalidServiceError(f"the name of a group must not have '>': {shown(name)}")
    return f"{made}."


def endpoint_subject(prefix: str, subject: object) -> str:
    """Where an endpoint listens. Raises `InvalidSubjectError`, `InvalidServiceError` for what belongs to monitors."""
    if not isinstance(subject, str):
        raise TypeError(f"the subject of an endpoint must be str, not {type(subject).__name__}")
    made = f"{prefix}{subject}"
    encode_subscription_subject(made)
    if made == PREFIX or made.startswith(f"{PREFIX}."):
        raise InvalidServiceError(f"no endpoint may listen below {PREFIX}, where monitors ask: {shown(made)}")
    return made


def monitor_subject(verb: str, name: str | None = None, instance: str | None = None) -> str:
    """Where services are asked: all, those of a name, or the one instance that has this id as well.

    Raises `InvalidServiceError`, `InvalidSubjectError`, `TypeError`; `ValueError` for an id without a name.
    """
    if name is None:
        if instance is not None:
            raise ValueError("the id of a service's instance needs the service's name with it")
        return f"{PREFIX}.{verb}"
    subject = f"{PREFIX}.{verb}.{check_name('a service', name)}"
    if instance is None:
        return subject
    encode_subject(instance, "id")
    if "." in instance:
        raise InvalidServiceError(f"the id of a service's instance must not have '.': {shown(instance)}")
    return f"{subject}.{instance}"
