"""Bulk operations, pruning, workers, statistics, health, metrics and the description of the API."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from osprotocol.server import console
from osprotocol.server.app import API_ROUTERS, api, create_app
from osprotocol.server.openapi import permission_of
from osprotocol.server.settings import ServerSettings
from tests.server.api.samples import call, started
from tests.server.security.world import World, world


async def test_bulk_gives_a_result_for_each() -> None:
    """What worked and what did not is told for each run, in the order in which they were given."""
    async with world() as made:
        one, two = await started(made, "api-ask"), await started(made, "api-count", 0)
        body = {"action": "pause", "runIds": [two, one, "none", one], "reason": "stop"}
        answer = await call(made, "operator", "POST", "/runs/bulk", json=body)
        items = answer.json()["items"]
        assert [(item["runId"], item["ok"], item["code"]) for item in items] == [
            (two, False, "invalid-transition"), (one, True, None), ("none", False, "run-not-found"),
        ]  # fmt: skip


@pytest.mark.parametrize("action", ["cancel", "pause", "retry"])
async def test_bulk_by_filter(action: str) -> None:
    """A filter means every run that it finds, over all pages."""
    async with world() as made:
        name = "api-fail" if action == "retry" else "api-ask"
        ids = [await started(made, name) for _ in range(3)]
        await started(made, "api-count", 0)
        body = {"action": action, "filter": {"workflow": name}}
        items = (await call(made, "operator", "POST", "/runs/bulk", json=body)).json()["items"]
        assert sorted(item["runId"] for item in items if item["ok"]) == sorted(ids)


async def test_bulk_under_a_key_is_done_once() -> None:
    """A bulk retry whose answer was lost half way is finished, not repeated."""
    async with world() as made:
        ids = [await started(made, "api-fail") for _ in range(4)]
        body = {"action": "retry", "runIds": ids}
        with pytest.MonkeyPatch.context() as patch:
            taken = type(made.client._engine).take_over
            done: list[str] = []

            async def half(self: Any, run_id: str, *more: Any) -> Any:
                if len(done) == 2:
                    raise asyncio.CancelledError
                done.append(run_id)
                return await taken(self, run_id, *more)

            patch.setattr(type(made.client._engine), "take_over", half)
            with pytest.raises(asyncio.CancelledError):
                await call(made, "operator", "POST", "/runs/bulk", json=body, key="k")
        await made.client.clock.settle()
        answer = await call(made, "operator", "POST", "/runs/bulk", json=body, key="k")
        assert [item["ok"] for item in answer.json()["items"]] == [True] * 4
        runs = (await made.client.list()).items
        assert sorted(run.origin.run_id for run in runs if run.origin) == sorted(ids)


async def test_bulk_votes() -> None:
    """Many votes, each with what was seen; a stale one is told and the others count."""
    async with world() as made:
        requests = [await made.question(await started(made, "api-ask")) for _ in range(3)]
        votes = [{"id": one.id, "seen": one.seen} for one in requests[:2]] + [{"id": requests[2].id, "seen": "1:x"}]
        body = {"action": "approve", "requests": [*votes, {"id": "none-1"}], "reason": "fine"}
        items = (await call(made, "approver", "POST", "/requests/bulk", json=body)).json()["items"]
        assert [(item["ok"], item["status"], item["code"]) for item in items] == [
            (True, "approved", None), (True, "approved", None), (False, None, "stale-request"),
            (False, None, "request-not-found"),
        ]  # fmt: skip


async def test_bulk_leaves_out_what_is_not_seen() -> None:
    """A limited token's bulk operation does not touch, or name, runs of other workflows."""
    async with world() as made:
        await made.add_token("narrow", "operator", "operator", workflows=["api-ask"])
        mine, other = await started(made, "api-ask"), await started(made, "guarded", "x")
        both = {"action": "pause", "runIds": [mine, other]}
        items = (await call(made, "narrow", "POST", "/runs/bulk", json=both)).json()["items"]
        assert [(item["ok"], item["code"]) for item in items] == [(True, None), (False, "run-not-found")]
        items = (await call(made, "narrow", "POST", "/runs/bulk", json={"action": "cancel", "filter": {}})).json()
        assert [item["runId"] for item in items["items"]] == [mine]


async def test_prune() -> None:
    """Final runs that ended before an instant are removed; how many is told."""
    async with world() as made:
        await started(made, "api-count", 0)
        body = {"olderThan": "2030-01-01T00:00:00Z"}
        assert (await call(made, "admin", "POST", "/runs/prune", json=body)).json() == {"runs": 1}
        naive = await call(made, "admin", "POST", "/runs/prune", json={"olderThan": "2030-01-01T00:00:00"})
        assert naive.status_code == 422


async def test_workers_and_evict() -> None:
    """Workers are listed and evicted; one that is not there is 404."""
    async with world() as made:
        (worker,) = (await call(made, "viewer", "GET", "/workers")).json()["items"]
        answer = await call(made, "admin", "POST", "/workers/none/evict")
        assert (answer.status_code, answer.json()["code"]) == (404, "worker-not-found")
        assert (await call(made, "admin", "POST", f"/workers/{worker['id']}/evict")).status_code == 200


async def test_statistics() -> None:
    """Counts over everything; not for tokens that do not see everything."""
    async with world() as made:
        await started(made, "api-ask")
        found = (await call(made, "viewer", "GET", "/statistics")).json()
        assert (found["runs"]["awaiting"], found["openRequests"]) == (1, 1)
        await made.add_token("narrow", "viewer", "viewer", workflows=["api-ask"])
        assert (await call(made, "narrow", "GET", "/statistics")).status_code == 403


async def test_health_needs_nobody() -> None:
    """Whether it runs, and whether it can work, is told to everybody, and nothing else with it."""
    async with world() as made, made.http() as http:
        for path in ("/healthz", "/readyz"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_not_ready(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When nothing can be accepted it is 503, the log says why; the engine is asked at most once a second."""
    async with world() as made, made.http() as http:
        asked: list[int] = []

        async def full(self: Any) -> list[str]:
            asked.append(1)
            return ["no space is left on /secret/path"]

        monkeypatch.setattr(type(made.client._engine), "problems", full)
        answers = [await http.get("/readyz") for _ in range(5)]
        assert {(answer.status_code, answer.text) for answer in answers} == {(503, '{"status":"unavailable"}')}
        assert len(asked) == 1
        assert [one.message for one in caplog.records] == ["not ready: no space is left on /secret/path"]


async def metrics(made: World) -> dict[tuple[str, str], float]:
    async with made.http("viewer") as http:
        text = (await http.get("/metrics")).text
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, ",".join(sorted(sample.labels.values()))] = sample.value
    return found


async def test_metrics() -> None:
    """Runs by status, open requests, and HTTP requests by the template of their route."""
    async with world() as made:
        run = await started(made, "api-ask")
        await call(made, "viewer", "GET", f"/runs/{run}")
        await call(made, "viewer", "GET", "/nothing/here")
        found = await metrics(made)
        assert found["osp_runs", "awaiting"] == 1
        assert found["osp_requests_open", ""] == 1
        assert found["osp_problems", ""] == 0
        assert found["osp_http_requests_total", "/api/v1/runs/{run_id},200,GET"] == 1
        assert not [names for names in found if run in names[1]]
        assert not [names for names in found if "nothing" in names[1]]


async def test_every_application_has_its_own_metrics() -> None:
    """A second server in the process counts for itself."""
    async with world() as made:
        await call(made, "viewer", "GET", "/me")
        second = create_app(made.client, made.books, ServerSettings())
        made.app = second
        assert not [names for names in await metrics(made) if "/api/v1/me" in names[1]]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("PUT", "/api/v1/runs", 405), ("OPTIONS", "/api/v1/runs", 405), ("GET", "/api/v1/nope", 404),
     ("GET", "/api/v1/runs/", 404), ("POST", "/healthz", 405)],
)  # fmt: skip
async def test_http_itself_refuses_in_the_same_form(method: str, path: str, status: int) -> None:
    """No such path and no such method are problems like every other."""
    async with world() as made, made.http("viewer") as http:
        answer = await http.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status


async def test_head_has_no_body() -> None:
    """HEAD is answered as GET, without a body."""
    async with world() as made, made.http("viewer") as http:
        answer = await http.head("/api/v1/runs")
        assert (answer.status_code, answer.content) == (200, b"")


async def test_unexpected_errors_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the server's own is 500 in the same form, without its text."""
    async with world() as made, made.http("viewer") as http:

        async def broken(*anything: Any) -> None:
            raise RuntimeError("secret detail")

        monkeypatch.setattr(type(made.client._engine), "list_runs", broken)
        answer = await http.get("/api/v1/runs")
        assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
        assert "secret" not in answer.text


async def test_description_is_complete() -> None:
    """Every route has an id of its own, its permission, and documents what it answers."""
    async with world() as made, made.http("viewer") as http:
        document = (await http.get("/api/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids)) == sum(len(router.routes) for router in API_ROUTERS)
    for operation in operations:
        assert operation["summary"], operation["operationId"]
        assert any(status.startswith("2") for status in operation["responses"])
        if operation["x-permission"] != "public":
            assert "401" in operation["responses"], operation["operationId"]
    refs = set(_refs(document))
    assert refs <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def test_every_route_of_the_api_declares_its_permission() -> None:
    """None is without."""
    for router in API_ROUTERS:
        for route in router.routes:
            assert permission_of(route) is not None


def test_applications_share_their_routes() -> None:
    """A route is analysed once in a process, not again for every application that has it."""
    assert all(one is other for one, other in zip(api().routes, api().routes, strict=True))
    assert all(one is other for one, other in zip(console.routes(), console.routes(), strict=True))


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for child in value.values() for ref in _refs(child)]
    if isinstance(value, list):
        return [ref for child in value for ref in _refs(child)]
    return []
