"""What the operating system says of a transport, as an error of ours."""

from __future__ import annotations

from ..errors import NATSError, TransportError

__all__ = ["transport_error"]


def transport_error(error_type: type[TransportError], what: str, error: Exception) -> NATSError:
    """An error of ours that says ``what`` and the text of ``error``, chained to it. One of ours stays as it is.

    It is not chained to where ``error`` was raised: the frames there may have had a CONNECT line in their hands.
    """
    if isinstance(error, NATSError):
        return error
    try:
        text = str(error)
    except Exception:  # one of the user's resolver, whose text cannot be made
        text = ""
    wrapped = error_type(f"{what}: {text or type(error).__name__}")
    wrapped.__cause__ = error.with_traceback(None)
    return wrapped
