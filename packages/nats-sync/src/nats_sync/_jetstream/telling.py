"""`Telling`: what a reader has survived is told by the log, by a function of the user, and kept to be asked for."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nats_proto._consuming.warning import MAX_WARNINGS

if TYPE_CHECKING:
    from nats_proto._consuming.warning import ConsumerWarning

__all__ = ["OnWarning", "Telling"]

logger = logging.getLogger("nats_sync.jetstream")

OnWarning = Callable[["ConsumerWarning"], object]


class Telling:
    """Of one reader."""

    __slots__ = ("_on_warning", "_told")

    def __init__(self, on_warning: OnWarning | None) -> None:
        self._on_warning = on_warning
        self._told: deque[ConsumerWarning] = deque(maxlen=MAX_WARNINGS)

    @property
    def told(self) -> list[ConsumerWarning]:
        """The newest last; the last hundred are kept."""
        return list(self._told)

    def tell(self, warnings: deque[ConsumerWarning]) -> None:
        """Tell these, and take them out. Raises what the user's function raises; those behind are told next time."""
        while warnings:
            warning = warnings.popleft()
            self._told.append(warning)
            logger.warning("%s", warning.text)
            if self._on_warning is not None:
                self._on_warning(warning)
