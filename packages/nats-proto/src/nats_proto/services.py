"""Values and errors of services (ADR-32), for whatever client speaks to the servers.

Both clients re-export these names, so that there is one of each. ``import nats_proto`` loads nothing of it.
"""

from ._permissions import Permission, Permissions
from ._services.errors import (
    InvalidServiceError,
    ServiceDecodeError,
    ServiceError,
    ServiceStoppedError,
    error_headers,
    service_error,
)
from ._services.names import INHERITED, Inherited
from ._services.state import EndpointState, Place, ServiceState, Verb
from ._services.values import EndpointInfo, EndpointStats, ServiceInfo, ServicePing, ServiceStats

__all__ = [
    "INHERITED",
    "EndpointInfo",
    "EndpointState",
    "EndpointStats",
    "Inherited",
    "InvalidServiceError",
    "Permission",
    "Permissions",
    "Place",
    "ServiceDecodeError",
    "ServiceError",
    "ServiceInfo",
    "ServicePing",
    "ServiceState",
    "ServiceStats",
    "ServiceStoppedError",
    "Verb",
    "error_headers",
    "service_error",
]
