"""The address and credentials of an HTTP proxy. The tunnel through it is `ProxyLayer`, in the room of the layers."""

from __future__ import annotations

from typing import NoReturn

from .._secret import Secret
from .._value import Value
from .server import read_proxy

__all__ = ["Proxy", "authority"]


class Proxy(Value, frozen=True, kw_only=True):
    """An HTTP proxy's address and credentials. Made by `Proxy.parse`.

    ``str`` and ``repr`` do not show the credentials. It cannot be pickled.
    """

    host: str
    """A name in lower case, or an IP address; IPv6 without brackets."""
    port: int
    credentials: Secret | None = None
    """``user:password``, for Basic authentication (RFC 7617)."""

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read ``http://host:port`` or ``http://user:password@host:port``; without a port it is 80.

        User and password are percent-decoded. Raises `InvalidURLError` when the URL cannot be used; the text has no
        user information.
        """
        result = read_proxy(url)
        if isinstance(result, tuple):
            host, port, credentials = result
            return cls(host=host, port=port, credentials=credentials)
        # Some programs print tracebacks with local variables, and the URL may hold a password.
        del url
        raise result

    @property
    def url(self) -> str:
        """Without user information; IPv6 in brackets; the port always."""
        return f"http://{authority(self.host, self.port)}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port: what to dial."""
        return (self.host, self.port)

    @property
    def authorization(self) -> Secret | None:
        """The credentials in the form in which they are sent: base64 (RFC 7617). None when there are none."""
        from base64 import b64encode

        return None if self.credentials is None else Secret(b64encode(self.credentials.reveal_bytes()))

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Proxy({self.url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Proxy is not pickled: it may hold a password")

    def __copy__(self) -> Proxy:
        return self

    def __deepcopy__(self, memo: object) -> Proxy:
        return self


def authority(host: str, port: int) -> str:
    """Host and port in the form that URLs have: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
