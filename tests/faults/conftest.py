"""The fault tests run on the same three legs as the behaviour suite."""

from tests.adapters.conftest import patient_clients, shared_server, url
from tests.adapters.legs import anyio_backend, leg

__all__ = ["anyio_backend", "leg", "patient_clients", "shared_server", "url"]
