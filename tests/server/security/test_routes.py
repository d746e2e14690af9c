"""S1, S2, S15: every route declares who may use it, and there is one way to each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount, Route

from osprotocol.server.access import GRANTS, Permission, Role, allow
from tests.server.security.world import World, world

PUBLIC = {"/sign-in", "/static/{name}", "/healthz", "/readyz"}


def permissions_of(dependant: Dependant | None) -> Iterator[Permission]:
    for dependency in dependant.dependencies if dependant is not None else ():
        permission = getattr(dependency.call, "permission", None)
        if permission is not None:
            yield permission
        yield from permissions_of(dependency)


def declared(routes: Any, prefix: str = "") -> Iterator[tuple[str, str, list[Permission]]]:
    """Every method and path with the permissions that it asks for; anything that is no route of ours has none."""
    for route in iter_route_contexts(routes):
        path = prefix + (route.path or "")
        inner = getattr(route.original_route, "routes", None)
        if isinstance(route.original_route, Mount) and inner:
            yield from declared(inner, path)
            continue
        found = list(permissions_of(getattr(route, "dependant", None)))
        for method in sorted(route.methods or {"*"}):
            yield method, path, found


def undeclared(routes: Any) -> list[str]:
    return [f"{method} {path}" for method, path, permissions in declared(routes) if not permissions]


def filled(path: str) -> str:
    """A path with something in the place of each parameter."""
    return re.sub(r"\{[^}]*\}", "xxxxxxxx", path)


async def call(it: World, person: str | None, method: str, path: str) -> Any:
    async with it.http(person) as http:
        body: dict[str, Any] = {}
        if method in ("POST", "PUT", "PATCH") and path.startswith("/api/"):
            body = {"json": {}}
        return await http.request(method, filled(path), **body)


async def test_every_route_declares_its_permission() -> None:
    """S1: a walk over the router, whatever is mounted in it included, finds no route without a permission."""
    async with world() as it:
        assert not undeclared(it.app.routes)
        assert len(list(declared(it.app.routes))) > 50


def test_a_route_without_permission_is_found() -> None:
    """S1: the walk finds a route that forgot it, behind a router and a mount too."""
    app, inner, mounted = (
        FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
        APIRouter(),
        FastAPI(openapi_url=None),
    )

    async def answer() -> None: ...

    inner.get("/forgotten")(answer)
    inner.get("/declared", dependencies=[allow(Permission.READ)])(answer)
    app.include_router(inner, prefix="/api")
    mounted.post("/in-a-mount")(answer)
    app.mount("/mounted", mounted)
    app.routes.append(Route("/plain", lambda request: None))
    found = undeclared(app.routes)
    assert "GET /api/forgotten" in found
    assert "POST /mounted/in-a-mount" in found
    assert "GET /plain" in found
    assert "GET /api/declared" not in found


async def test_who_may_only_look_changes_nothing() -> None:
    """S1: whatever changes a run asks for more than to see it."""
    async with world() as it:
        changing = [one for one in declared(it.app.routes) if one[0] in ("POST", "PUT", "PATCH", "DELETE")]
        assert len(changing) > 30
        assert [one for one in changing if Permission.READ in one[2] and len(set(one[2])) == 1] == []


async def test_only_a_few_routes_are_public() -> None:
    """S1: what everybody may reach is the sign-in, the static files and the health of the server."""
    async with world() as it:
        public = {path for _, path, permissions in declared(it.app.routes) if Permission.PUBLIC in permissions}
        assert public == PUBLIC


async def test_strangers_get_nothing() -> None:
    """S1: without a token or session every route that is not public answers 401, and pages send to the sign-in."""
    async with world() as it:
        for method, path, permissions in declared(it.app.routes):
            if Permission.PUBLIC in permissions:
                continue
            answer = await call(it, None, method, path)
            is_page = not path.startswith(("/api/", "/metrics"))
            if is_page:
                assert answer.status_code == 303, (method, path, answer.status_code)
                assert answer.headers["location"].startswith("/sign-in")
            else:
                assert answer.status_code == 401, (method, path, answer.status_code)


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
async def test_a_role_is_refused_what_it_does_not_grant(role: Role) -> None:
    """S1: for each route whose permission the role lacks the answer is 403, whatever the object."""
    async with world() as it:
        asked = 0
        for method, path, permissions in declared(it.app.routes):
            lacking = [one for one in permissions if one is not Permission.PUBLIC and one not in GRANTS[role]]
            if lacking:
                answer = await call(it, role.value, method, path)
                assert answer.status_code == 403, (method, path, answer.status_code, answer.text[:200])
                asked += 1
        assert asked


ODD_PATHS = (
    "//api/v1/runs",
    "/api//v1/runs",
    "/api/v1/runs/",
    "/api/v1/./runs",
    "/api/v1/../v1/runs",
    "/api%2Fv1%2Fruns",
    "/api/v1%2fruns",
    "/api/v1/%2e%2e/v1/runs",
    "/healthz/../api/v1/runs",
    "/healthz/%2e%2e/api/v1/runs",
    "/static/../api/v1/runs",
    "/api/v1/runs%00",
    "/api\\v1\\runs",
    "/api/v1/runs%5c",
    "/API/V1/RUNS",
    "/api/v1/runs;x",
    "/sign-in/../api/v1/runs",
    "/sign-in%2f..%2fapi/v1/runs",
)


async def raw(it: World, path: str, headers: list[tuple[bytes, bytes]] | None = None, method: str = "GET") -> int:
    """The status for a path exactly as it is written, which an HTTP client would tidy up."""
    from urllib.parse import unquote

    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers if headers is not None else [(b"host", b"127.0.0.1:8321")],
        "client": ("127.0.0.1", 40_000),
        "server": ("127.0.0.1", 8321),
    }
    await it.app(scope, receive, send)
    return statuses[0]


async def test_an_odd_path_is_no_way_around() -> None:
    """S2: doubled, encoded, dotted and trailing variants of a path answer 404 or 401, never with data."""
    async with world() as it:
        answers = {path: await raw(it, path) for path in ODD_PATHS}
        assert set(answers.values()) <= {401, 404}, answers


async def test_there_is_one_way_to_write_a_path() -> None:
    """S2: for somebody who may see the runs, too, a path that is written in another way leads nowhere."""
    async with world() as it:
        headers = [(b"host", b"127.0.0.1:8321"), (b"authorization", f"Bearer {it.secrets['viewer']}".encode())]
        assert await raw(it, "/api/v1/runs", headers) == 200
        answers = {path: await raw(it, path, headers) for path in ODD_PATHS}
        assert set(answers.values()) == {404}, answers


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8321/healthz",
        "127.0.0.1:8321?x=/healthz",
        "127.0.0.1:8321#/healthz",
        "127.0.0.1:8321@evil.example",
        "evil.example",
        "evil.example:8321",
        "127.0.0.1:8321.evil.example",
        "127.0.0.1:9999",
        "localhost.evil.example:8321",
        "",
        "[::1",
        "127.1:8321",
        "0x7f.0.0.1:8321",
        "2130706433:8321",
        "localhost.:8321",
        "127.0.0.1:8321 ",
    ],
)
async def test_a_host_that_is_not_ours_is_refused(host: str) -> None:
    """S2, S15: a Host header with a slash, question mark, hash or another name is refused, public paths included."""
    async with world() as it:
        for path in ("/healthz", "/api/v1/runs", "/sign-in"):
            assert await raw(it, path, [(b"host", host.encode())]) == 403


async def test_two_host_headers_are_refused() -> None:
    """S2: which of two would count differs between programs, so neither does."""
    async with world() as it:
        assert await raw(it, "/healthz", [(b"host", b"127.0.0.1:8321"), (b"host", b"evil.example")]) == 403
        assert await raw(it, "/healthz", []) == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost:8321", "LOCALHOST:8321", "[::1]:8321"])
async def test_the_names_of_this_machine_are_answered(host: str) -> None:
    """S15: loopback names with the server's port are ours."""
    async with world() as it:
        assert await raw(it, "/healthz", [(b"host", host.encode())]) == 200


async def test_forwarded_headers_decide_nothing() -> None:
    """S2: headers in which proxies tell where a request came from change neither path, host nor person."""
    async with world() as it, it.http() as http:
        for name in (
            "X-Forwarded-Host",
            "X-Forwarded-Prefix",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-Forwarded-User",
            "X-Remote-User",
            "X-HTTP-Method-Override",
            "Forwarded",
            "X-Forwarded-Path",
        ):
            for value in ("/healthz", "admin", "evil.example", "GET"):
                answer = await http.get("/api/v1/runs", headers={name: value})
                assert answer.status_code == 401, (name, value)


@pytest.mark.parametrize("name", ["healthz", "readyz", "sign-in", "static", "login", "me", "openapi.json"])
async def test_a_thing_named_like_a_public_path_is_not_public(name: str) -> None:
    """S2: a run, request, workflow or user of that name is as guarded as any other."""
    async with world() as it, it.http() as http:
        for path in (f"/api/v1/runs/{name}", f"/api/v1/requests/{name}", f"/api/v1/workflows/{name}"):
            assert (await http.get(path)).status_code == 401


async def test_a_page_of_another_site_is_refused_before_routing() -> None:
    """S15: a foreign Origin is refused on every route, whoever is signed in, paths that do not exist included."""
    async with world() as it:
        for method, path, _ in (*declared(it.app.routes), ("GET", "/nowhere", [])):
            async with it.http("admin") as http:
                answer = await http.request(method, filled(path), headers={"Origin": "https://evil.example"})
            assert answer.status_code == 403, (method, path)
            assert "evil.example" in answer.text or method == "HEAD"


async def test_nobody_may_read_answers_from_another_site() -> None:
    """S15: no answer carries a header that lets another origin read it."""
    async with world() as it, it.http("viewer") as http:
        for path in ("/api/v1/runs", "/healthz", "/sign-in", "/nowhere"):
            answer = await http.get(path)
            assert not [name for name in answer.headers if name.startswith("access-control-")]
        answer = await http.options("/api/v1/runs", headers={"Access-Control-Request-Method": "POST"})
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_the_public_address_is_ours() -> None:
    """S15: behind a proxy the public name is answered and its origin may change things; others still may not."""
    from osprotocol.server.settings import ServerSettings

    settings = ServerSettings(public_url="https://runs.example.org", allow_hosts=("inside.example:9000",))
    async with world(settings) as it:
        host = [(b"host", b"runs.example.org")]
        assert await raw(it, "/healthz", host) == 200
        assert await raw(it, "/healthz", [(b"host", b"inside.example:9000")]) == 200
        assert await raw(it, "/healthz", [(b"host", b"inside.example:9001")]) == 403
        assert await raw(it, "/healthz", [*host, (b"origin", b"https://runs.example.org")]) == 200
        assert await raw(it, "/healthz", [*host, (b"origin", b"http://runs.example.org")]) == 403
        assert await raw(it, "/healthz", [*host, (b"origin", b"https://runs.example.org.evil.example")]) == 403


def test_every_permission_is_granted_by_some_role() -> None:
    """S1: no permission is out of everybody's reach, and only the common ones are in everybody's."""
    everybody = set(Permission)
    for role in Role:
        everybody &= GRANTS[role]
    assert everybody == {Permission.PUBLIC, Permission.OWN, Permission.READ}
    assert {one for role in Role for one in GRANTS[role]} == set(Permission)
