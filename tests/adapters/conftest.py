"""The fixtures of the suite that runs on three legs."""

from tests.adapters.legs import anyio_backend, leg

__all__ = ["anyio_backend", "leg"]
