"""What every route does alike: unknown query parameters, HEAD, and what there is none of."""

from __future__ import annotations

import re

import pytest
from fastapi.routing import APIRoute

from osprotocol.server.app import API_ROUTERS
from tests.server.api.samples import API, call, started
from tests.server.security.world import world

ROUTES = sorted(
    (method, re.sub(r"\{\w+\}", "x", route.path.removeprefix(API)))
    for router in API_ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and route.path not in ("/healthz", "/readyz", "/metrics", f"{API}/openapi.json")
    for method in route.methods or ()
)


async def test_every_route_refuses_a_parameter_that_it_does_not_have() -> None:
    """A filter with a typo is 422 with its path, instead of no filter."""
    async with world() as made:
        await made.add_person("root", "viewer", "operator", "approver", "admin")
        assert ("GET", "/runs") in ROUTES
        for method, path in ROUTES:
            answer = await call(made, "root", method, f"{path}?statu=failed")
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid-value"), (method, path)
            assert answer.json()["errors"][0][0] == "$.statu"


async def test_a_strange_parameter_is_told_with_those_that_there_are() -> None:
    """So that the typo is seen."""
    async with world() as made:
        answer = await call(made, "viewer", "GET", "/runs/x/logs?before=3")
        assert answer.json()["detail"] == (
            "query of the request is not valid: "
            "$.before: there is no such parameter; there are after, limit, newest"
        )  # fmt: skip


async def test_a_wrong_parameter_is_told_in_one_sentence() -> None:
    """What is wrong with it, and where."""
    async with world() as made:
        answer = await call(made, "viewer", "GET", "/runs?limit=x")
        assert answer.json()["detail"].startswith("query of the request is not valid: $.limit: Input should be")


async def test_who_is_not_signed_in_is_told_that_first() -> None:
    """Strangers learn nothing about parameters."""
    async with world() as made, made.http() as http:
        assert (await http.get(f"{API}/runs?statu=failed")).status_code == 401


async def test_parameters_of_the_filter_are_known() -> None:
    """By the names of the wire."""
    async with world() as made:
        run = await started(made, "api-count")
        path = "/runs?status=completed&startedAfter=2000-01-01T00:00:00Z&label=a=b&label=c=d&limit=5"
        assert (await call(made, "viewer", "GET", path)).status_code == 200
        assert (await call(made, "viewer", "GET", f"/runs/{run}/events?after=1&logsAfter=2")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/runs", "/healthz", "/readyz", f"{API}/runs", f"{API}/events"])
async def test_head_is_get_without_a_body(path: str) -> None:
    """For uptime checks and `curl -I`; a stream is not begun, it would never end."""
    async with world() as made, made.http("viewer") as http:
        answer = await http.head(path, headers={"Accept": "text/event-stream"})
        found = await http.get(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"] == found.headers["content-type"]


async def test_where_only_a_form_is_sent_there_is_no_page() -> None:
    """A typed address is 404 there; another method is 405."""
    async with world() as made, made.http("viewer") as http:
        assert (await http.get("/runs/abc/pause")).status_code == 404
        assert (await http.put("/runs/abc/pause", headers={"Origin": "http://127.0.0.1:8321"})).status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("DELETE", "/tokens/nope", None, (404, "token-not-found", ["nope"])),
        ("PATCH", "/users/nope", {"disabled": True}, (404, "user-not-found", ["nope"])),
        ("POST", "/tokens", {"user": "nope", "roles": ["viewer"]}, (404, "user-not-found", ["nope"])),
        ("POST", "/users", {"name": "VIEWER", "roles": ["viewer"]}, (409, "user-exists", ["viewer"])),
    ],
)
async def test_people_and_tokens_that_there_are_none_of(
    method: str, path: str, body: object, told: tuple[int, str, list[str]]
) -> None:
    """Unknown ones are 404 as everywhere, a name that is taken is 409."""
    async with world() as made:
        answer = await call(made, "admin", method, path, json=body)
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["facts"]) == told


async def test_a_body_that_is_too_large_is_told_in_bytes() -> None:
    """How large it is and how large it may be, without names of our code in the title."""
    async with world() as made:
        body = {"workflow": "api-echo", "input": "x" * 3_000_000}
        problem = (await call(made, "operator", "POST", "/runs", json=body)).json()
        assert problem["title"] == "Something is larger, longer or more than its limit allows."
        assert re.fullmatch(
            r"body of the request: 3,000,\d{3} bytes, the limit BODY_BYTES is 1,114,112", problem["detail"]
        )
