"""`Permissions`: the subjects that a program needs, for who gives it no more than these.

Servers refuse what a user has no permission for. Who gives no more than is needed has to know which subjects lie below
a call. So the handles tell it: they know the prefix of the API, the origin of a mirror and the prefix of inboxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ._value import Value

__all__ = ["Permission", "Permissions", "inboxes", "permitted"]


class Permission(Value, frozen=True, kw_only=True):
    """One subject, maybe with wildcards."""

    subject: str
    purpose: str
    """What needs it: calls, by their names, or a few words."""

    def __str__(self) -> str:
        return self.subject


class Permissions(Value, frozen=True, kw_only=True):
    """The subjects that a program needs, as a user of a server is given them.

    Printed, it is the part of a server's configuration that says so, with the purpose of each subject beside it: who
    does without a call may leave out what no other one needs. ``one | other`` is for a program that needs both.
    """

    publish: tuple[Permission, ...] = ()
    subscribe: tuple[Permission, ...] = ()
    allow_responses: bool = False
    """Whether it answers requests, on subjects that only these tell."""

    def __or__(self, other: Permissions) -> Permissions:
        return Permissions(
            publish=_joined(self.publish + other.publish),
            subscribe=_joined(self.subscribe + other.subscribe),
            allow_responses=self.allow_responses or other.allow_responses,
        )

    def __str__(self) -> str:
        lines = [*_listed("publish", self.publish), *_listed("subscribe", self.subscribe)]
        if self.allow_responses:
            lines.append("  allow_responses: true")
        return "\n".join(("permissions: {", *lines, "}"))


def permitted(*subjects: tuple[str, str]) -> tuple[Permission, ...]:
    """Pairs of a subject and its purpose."""
    return tuple(Permission(subject=subject, purpose=purpose) for subject, purpose in subjects)


def inboxes(new_inbox: Callable[[], str]) -> tuple[Permission, ...]:
    """Where the answers to requests come."""
    return permitted((f"{new_inbox().rpartition('.')[0]}.>", "answers"))


def _joined(permissions: Iterable[Permission]) -> tuple[Permission, ...]:
    purposes: dict[str, dict[str, None]] = {}
    for one in permissions:
        purposes.setdefault(one.subject, {})[one.purpose] = None
    return permitted(*((subject, "; ".join(told)) for subject, told in purposes.items()))


def _listed(name: str, permissions: tuple[Permission, ...]) -> list[str]:
    if not permissions:
        return []
    width = max(len(one.subject) for one in permissions) + 2
    quoted = ((f'"{one.subject}"', one.purpose) for one in permissions)
    return [f"  {name}: [", *(f"    {subject:<{width}}  # {purpose}" for subject, purpose in quoted), "  ]"]
