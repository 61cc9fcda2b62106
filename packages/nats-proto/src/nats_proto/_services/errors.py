"""What can go wrong with a service, and how an error is told to whoever has sent the request (ADR-32).

A service that cannot do what it was asked for answers with two headers: a number, and a text for people. Both sides
know this as a `ServiceError`: a handler raises one, and `service_error` finds it in an answer.
"""

from __future__ import annotations

import re
from typing import Final

from .._limits import shown
from .._wire.frames import Message
from .._wire.headers import Headers, HeadersLike
from ..errors import NATSError, Outcome

__all__ = [
    "BAD_REQUEST",
    "ERROR_CODE_HEADER",
    "ERROR_HEADER",
    "FORBIDDEN",
    "INTERNAL_ERROR",
    "InvalidServiceError",
    "ServiceDecodeError",
    "ServiceError",
    "ServiceStoppedError",
    "error_headers",
    "error_text",
    "failure_of",
    "service_error",
]

ERROR_HEADER: Final = "Nats-Service-Error"
ERROR_CODE_HEADER: Final = "Nats-Service-Error-Code"

BAD_REQUEST: Final = 400
"""The code for a request that cannot be read as what the endpoint takes."""
FORBIDDEN: Final = 403
"""The code for a subscription that the server refuses, in the statistics of its endpoint."""
INTERNAL_ERROR: Final = 500
"""The code for what a handler has raised and is no `ServiceError`."""

MAX_CODE: Final = 999_999_999
"""Whoever reads a code must be able to take it for a number of any size."""
MAX_DESCRIPTION: Final = 512
"""Characters of a description that are sent, and kept of what was received. A header is no place for a traceback."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+").sub
_NUMBER: Final = re.compile(r"[0-9]{1,9}").fullmatch


class InvalidServiceError(NATSError, ValueError):
    """A name, a version or another part of a service that cannot be one (ADR-32). The text says why."""


class ServiceStoppedError(NATSError):
    """The service was stopped, and takes no more endpoints."""


class ServiceDecodeError(NATSError):
    """An answer of a service that cannot be read. The text names the field."""

    outcome: Outcome = "unknown"


class ServiceError(NATSError):
    """What a service answers when it cannot do what it was asked for.

    Raised by a handler it becomes the answer, with ``data`` as its payload. ``code``: 0 to 999,999,999, most use those
    of HTTP; 0 in an error that was received means that its code was no number. ``description`` is for people: of one
    that is sent, blanks stand in the place of control characters, and 512 characters are sent. Raises `TypeError` and
    `ValueError` for a code that is none, and for an empty description.
    """

    # The handler that says so may have done a part of the work.
    outcome: Outcome = "unknown"

    def __init__(self, code: int, description: str, data: bytes = b"") -> None:
        super().__init__(code, description, data)
        self.code = _checked_code(code)
        self.description = _checked_description(description)
        self.data = data

    def __str__(self) -> str:
        return error_text(self.code, self.description)


def _checked_code(code: object) -> int:
    if not isinstance(code, int) or isinstance(code, bool):
        raise TypeError(f"the code of a service's error must be int, not {type(code).__name__}")
    if not 0 <= code <= MAX_CODE:
        raise ValueError(f"the code of a service's error must be from 0 to {MAX_CODE}: {shown(code)}")
    return code


def _checked_description(description: object) -> str:
    if not isinstance(description, str):
        raise TypeError(f"the description of a service's error must be str, not {type(description).__name__}")
    if not description.strip():
        raise ValueError("the description of a service's error must not be empty")
    return description


def error_text(code: int, description: str) -> str:
    """As ``last_error`` of an endpoint's statistics has it."""
    return f"{code}:{_in_a_line(description)}"


def error_headers(code: int, description: str, headers: HeadersLike | None = None) -> Headers:
    """The headers of an answer that is an error, with others that are sent with them. Raises as `ServiceError`."""
    made = Headers(headers)
    made[ERROR_HEADER] = _in_a_line(_checked_description(description))
    made[ERROR_CODE_HEADER] = str(_checked_code(code))
    return made


def failure_of(error: BaseException) -> ServiceError:
    """What is answered for what a handler has raised: its own words, or the name of its class when it has none."""
    if isinstance(error, ServiceError):
        return error
    try:
        text = str(error)
    except Exception:
        text = ""  # it is the user's class
    return ServiceError(INTERNAL_ERROR, text if text.strip() else type(error).__name__)


def service_error(message: Message) -> ServiceError | None:
    """The error in an answer of a service; None when the answer is none. Raises nothing, whatever the answer is.

    Whoever asks a service by `request` looks here, since an error is an answer like others otherwise.
    """
    headers = message.headers
    if headers is None or (ERROR_HEADER not in headers and ERROR_CODE_HEADER not in headers):
        return None
    code, description = headers.get(ERROR_CODE_HEADER) or "", headers.get(ERROR_HEADER) or ""
    told = description[:MAX_DESCRIPTION].strip() or "without a description"
    return ServiceError(int(code) if _NUMBER(code) else 0, told, message.data)


def _in_a_line(description: str) -> str:
    """As a header can have it: without control characters, without what is no UTF-8, and not too long."""
    line = _CONTROL(" ", description[:MAX_DESCRIPTION]).strip()
    return line if line.isascii() else line.encode("utf-8", "replace").decode()
