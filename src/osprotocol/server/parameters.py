"""Query parameters: one that a route of the API does not have is refused, for a filter with a typo filters nothing."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from osprotocol.errors import InvalidValueError

_SHOWN = 40


def check_query(request: Request) -> None:
    """Refuse query parameters that the route does not have.

    Raises:
        InvalidValueError: with each of them, and those that there are.
    """
    route = request.scope.get("route")
    if not request.url.query or not isinstance(route, APIRoute):
        return
    known = set(_parameters(route.dependant))
    strange = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if strange:
        there = f"there are {', '.join(sorted(known))}" if known else "there are none here"
        problems = tuple((f"$.{name[:_SHOWN]}", f"there is no such parameter; {there}") for name in strange)
        raise InvalidValueError("query of the request", problems)


def _parameters(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _parameters(inner)
