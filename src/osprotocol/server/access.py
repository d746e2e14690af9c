"""Who may do what: roles, permissions, and the declaration that every route carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi import Depends, Request

from osprotocol.errors import NotPermittedError, NotSignedInError
from osprotocol.server.parameters import check_query


class Permission(StrEnum):
    """What a route asks for. The value completes "may not ..."."""

    PUBLIC = "use what everybody may"
    OWN = "manage what is their own"
    READ = "see runs"
    START = "start runs"
    STEER = "pause, resume, cancel, retry or fork runs"
    ANSWER = "answer requests"
    DELETE = "delete runs"
    WORKERS = "take runs away from a worker"
    PEOPLE = "manage people"
    AUDIT = "read the audit log"


class Role(StrEnum):
    """What a person is to the server. Not a ladder: an operator cannot vote, an approver cannot start."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


_EVERYBODY = frozenset((Permission.PUBLIC, Permission.OWN, Permission.READ))
GRANTS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _EVERYBODY,
    Role.OPERATOR: _EVERYBODY | {Permission.START, Permission.STEER, Permission.AUDIT},
    Role.APPROVER: _EVERYBODY | {Permission.ANSWER, Permission.AUDIT},
    Role.ADMIN: _EVERYBODY | {Permission.DELETE, Permission.WORKERS, Permission.PEOPLE, Permission.AUDIT},
}

_FOR_ALL_RUNS = frozenset((Permission.WORKERS, Permission.PEOPLE))
"""What reaches beyond some workflows: who makes a person can become one who sees everything."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A person as a request shows them.

    Attributes:
        name: of the person; what votes and the audit log say.
        roles: what counts for this request; a token may have fewer than its person.
        via: ``session`` or ``token ID``.
        workflows: only runs of these are there for this principal; None means all.
        session: hash of the browser session, for requests that came with one.
    """

    name: str
    roles: frozenset[Role]
    via: str
    workflows: frozenset[str] | None = None
    session: str | None = None

    def may(self, permission: Permission) -> bool:
        """Whether any of the roles grants it, and a limit to some workflows does not take it away."""
        if self.workflows is not None and permission in _FOR_ALL_RUNS:
            return False
        return any(permission in GRANTS[role] for role in self.roles)

    def check(self, permission: Permission) -> None:
        """Refuse what no role grants.

        Raises:
            NotPermittedError: no role does, or the limit of a token to some workflows.
        """
        if not self.may(permission):
            if any(permission in GRANTS[role] for role in self.roles):
                raise NotPermittedError(self.name, permission.value, "this token is limited to some workflows")
            needed = " or ".join(role.value for role in Role if permission in GRANTS[role])
            raise NotPermittedError(self.name, permission.value, f"that needs the role {needed}")

    def sees(self, workflow: str) -> bool:
        """Whether runs of a workflow are there for this principal."""
        return self.workflows is None or workflow in self.workflows


def allow(permission: Permission) -> Any:
    """The dependency with which a route declares what it asks for; it gives the `Principal`.

    A route that must be reachable by everybody says ``dependencies=[allow(Permission.PUBLIC)]``.
    """

    async def permitted(request: Request) -> Principal | None:
        if permission is Permission.PUBLIC:
            return None
        principal = await _identify(request)
        if principal is None:
            raise NotSignedInError()
        principal.check(permission)
        if request.url.path.startswith("/api/"):
            check_query(request)
        return principal

    permitted.permission = permission  # type: ignore[attr-defined]
    return Depends(permitted)


async def _identify(request: Request) -> Principal | None:
    identify: Callable[[Request], Awaitable[Principal | None]] = request.app.state.identify
    known: Principal | None = getattr(request.state, "principal", None)
    if known is None:
        known = await identify(request)
        request.state.principal = known
    return known
