"""Services: what `Client.add_service` and `Client.services` give, with values and errors of `nats_proto.services`."""

from nats_proto.services import (
    INHERITED,
    EndpointInfo,
    EndpointStats,
    Inherited,
    InvalidServiceError,
    Permission,
    Permissions,
    ServiceDecodeError,
    ServiceError,
    ServiceInfo,
    ServicePing,
    ServiceStats,
    ServiceStoppedError,
    service_error,
)

from ._services.discovery import Found, Services
from ._services.endpoint import Endpoint
from ._services.groups import Group
from ._services.request import Request
from ._services.running import StatsHandler
from ._services.service import Service

__all__ = [
    "INHERITED",
    "Endpoint",
    "EndpointInfo",
    "EndpointStats",
    "Found",
    "Group",
    "Inherited",
    "InvalidServiceError",
    "Permission",
    "Permissions",
    "Request",
    "Service",
    "ServiceDecodeError",
    "ServiceError",
    "ServiceInfo",
    "ServicePing",
    "ServiceStats",
    "ServiceStoppedError",
    "Services",
    "StatsHandler",
    "service_error",
]
