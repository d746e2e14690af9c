"""The OpenAPI description: what FastAPI cannot know of these routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import PydanticOmit, core_schema

from osprotocol import _limits
from osprotocol import errors as e
from osprotocol.protocol.http import Problem
from osprotocol.server.access import Permission
from osprotocol.server.problems import MEDIA_TYPE

Refusal = type[e.OSProtocolError]
_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}

READING: tuple[Refusal, ...] = (
    e.NotSignedInError,
    e.NotPermittedError,
    e.InvalidValueError,
    e.TooManyRequestsError,
    e.StoreError,
)
FINDING: tuple[Refusal, ...] = (*READING, e.InvalidNameError, e.RunNotFoundError, e.AmbiguousRunIdError)
FINDING_REQUEST: tuple[Refusal, ...] = (*READING, e.InvalidNameError, e.RequestNotFoundError, e.AmbiguousRunIdError)
POSTING: tuple[Refusal, ...] = (*READING, e.InvalidOptionError, e.LimitExceededError, e.DuplicateRequestError)


def answers(
    model: Any, *refusals: Refusal, status: int = 200, also: int | None = None, kind: str | None = None
) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route.

    Args:
        model: what it answers; None for an empty body.
        refusals: the errors that it may answer.
        status: of the answer.
        also: another status with the same answer.
        kind: a further media type of the answer.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for code in (status, also):
        if code is not None:
            found[code] = {"model": model} if model is not None else {}
            if kind is not None:
                found[code]["content"] = {kind: {"schema": {"type": "string"}}}
    for refused in sorted(set(refusals), key=lambda one: one.code):
        entry = found.setdefault(
            refused.http_status,
            {"description": "", **_PROBLEM},
        )
        entry["description"] += ("; " if entry["description"] else "") + f"`{refused.code}`"
    return found


class _Schemas(GenerateJsonSchema):
    """Leaves out what has no JSON form: functions."""

    def callable_schema(self, schema: core_schema.CallableSchema) -> JsonSchemaValue:
        raise PydanticOmit

    def tuple_schema(self, schema: core_schema.TupleSchema) -> JsonSchemaValue:
        made = super().tuple_schema(schema)
        parts = made.get("prefixItems", [])
        if parts and all(part == parts[0] for part in parts):  # not every tool reads prefixItems
            del made["prefixItems"]
            made["items"] = parts[0]
        return made

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        if schema["schema"]["type"] == "callable":
            raise PydanticOmit
        return super().nullable_schema(schema)


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body is done once; the answer is then the first one's.",
    "schema": {"type": "string", "minLength": 1, "maxLength": _limits.IDEMPOTENCY_KEY_CHARACTERS},
}
# What the server answers before a route is reached, or when it cannot do its work.
ANYWHERE = {
    400: "the request is malformed",
    403: "`not-permitted`",
    404: "no such path",
    429: "`too-many-requests`",
    431: "too many or too long headers",
    503: "`store`, or it took too long",
}
_WITH_BODY = {413: "`limit-exceeded`", 415: "the body is not application/json, or compressed"}


def describe(app: FastAPI, routers: Iterable[APIRouter]) -> dict[str, Any]:
    """The whole description.

    Args:
        app: the application.
        routers: those of the API.
    """
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    document["servers"] = [{"url": "/"}]
    routes = {route.name: route for router in routers for route in router.routes if isinstance(route, APIRoute)}
    models: set[type[BaseModel]] = {Problem}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            route = routes[operation["operationId"]]
            _complete(operation, route, path, method, models)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _, made = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda one: one.__name__)],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Schemas,
    )
    document["components"]["schemas"] = {**made["$defs"], **schemas}
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "Made by ``osp token create``."}
    }
    return document


def permission_of(route: APIRoute) -> Permission:
    """What a route asks for."""
    found = [
        one.call.permission  # type: ignore[union-attr]
        for one in route.dependant.dependencies
        if hasattr(one.call, "permission")
    ]
    return Permission(found[0])


def body_of(route: APIRoute) -> tuple[type[BaseModel], bool] | None:
    """The shape of a route's body, and whether it may be left out."""
    for one in route.dependant.dependencies:
        if hasattr(one.call, "body_model"):
            return one.call.body_model, one.call.body_is_optional  # type: ignore[union-attr]
    return None


def _complete(operation: dict[str, Any], route: APIRoute, path: str, method: str, models: set[type[BaseModel]]) -> None:
    operation["summary"] = (route.endpoint.__doc__ or route.name).splitlines()[0].rstrip(".")
    operation["x-permission"] = permission_of(route).name.lower()
    if permission_of(route) is not Permission.PUBLIC:
        operation["security"] = [{"token": []}]
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    added = dict(ANYWHERE)
    body = body_of(route)
    if body is not None:
        added |= _WITH_BODY
        models.add(body[0])
        schema = {"$ref": f"#/components/schemas/{body[0].__name__}"}
        operation["requestBody"] = {"required": not body[1], "content": {"application/json": {"schema": schema}}}
    if method == "post":
        operation.setdefault("parameters", []).append(_KEY)
    for status, text in added.items():
        if str(status) not in responses:
            responses[str(status)] = {"description": text, **_PROBLEM}
    operation["responses"] = {status: responses[status] for status in sorted(responses)}
