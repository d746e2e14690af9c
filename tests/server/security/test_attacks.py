"""S12, S13, S16, S17: what somebody sends to break in, or to break it."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osprotocol import _limits
from osprotocol.server.guard import BODY_BYTES, Guard
from osprotocol.server.settings import ServerSettings
from tests.server.security.world import BASE, RawStream, World, world

# --------------------------------------------------------------------------- S12

CANARY = "osp_canary_module"


class Boom:
    """What unpickling would call."""

    def __reduce__(self) -> Any:
        return __import__, (CANARY,)


PLANTED: list[Any] = [
    {"py/object": f"{CANARY}.Boom", "py/reduce": [{"py/function": f"{CANARY}.boom"}, {"py/tuple": []}]},
    {"__reduce__": [CANARY, []], "__class__": f"{CANARY}.Boom", "$type": f"{CANARY}.Boom", "@class": f"{CANARY}.Boom"},
    {"type": "constructor", "id": [CANARY], "lc": 1, "kwargs": {}},
    f"!!python/object/apply:{CANARY}.boom []",
    f"!!python/module:{CANARY}",
    base64.b64encode(pickle.dumps(Boom())).decode(),
    pickle.dumps(Boom(), protocol=0).decode("latin-1"),
    f"{{{{ cycler.__init__.__globals__.os.popen('{CANARY}') }}}}",
    f"${{jndi:ldap://127.0.0.1/{CANARY}}}",
]
_NEVER = {
    "pickle.find_class",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "socket.getaddrinfo",
}
_watching: list[str] = []
_armed = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _armed:
        return
    if event in _NEVER or (event in ("import", "open") and CANARY in repr(arguments)):
        _watching.append(f"{event} {arguments!r}"[:200])


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Records what decoding must never do; gives the list."""
    global _armed
    (tmp_path / f"{CANARY}.py").write_text("def boom(): ...\nclass Boom: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    if not getattr(sys, "_osp_hooked", False):
        sys.addaudithook(_watch)  # stays for the life of the process, idle when not armed
        sys._osp_hooked = True  # type: ignore[attr-defined]
    _watching.clear()
    _armed = True
    yield _watching
    _armed = False


async def everywhere(it: World, run: str) -> None:
    """Look at a run in every way there is."""
    async with it.http("admin") as http:
        for path in (
            f"/runs/{run}",
            f"/runs/{run}?tab=values",
            f"/runs/{run}?tab=events",
            f"/runs/{run}?tab=requests",
            f"/api/v1/runs/{run}",
            f"/api/v1/runs/{run}/steps",
            f"/api/v1/runs/{run}/events",
            "/runs",
            "/inbox",
            "/api/v1/requests?open=all",
            "/",
            "/audit",
            "/api/v1/audit",
        ):
            answer = await http.get(path)
            assert answer.status_code in (200, 403, 404, 409, 500, 503), path


async def test_nothing_in_a_body_is_imported_or_called(watched: list[str]) -> None:
    """S12: pickles, YAML tags, class hints and templates in a body are data, while they are stored, run and shown."""
    async with world() as it:
        for planted in PLANTED:
            run = await it.start("operator", "echoing", planted)
            assert (await it.client.get(run)).status == "completed"
            await everywhere(it, run)
        run = await it.start("operator", "guarded", "x")
        async with it.http("operator") as http:
            for body in PLANTED:
                await http.post(f"/api/v1/runs/{run}/pause", json=body)
                await http.post("/api/v1/runs", json={"workflow": body, "options": body})
                gate = {"kind": "approval", "prompt": str(body), "payload": body}
                await http.post(f"/api/v1/runs/{run}/requests", json=gate)
        await everywhere(it, run)
    assert not watched
    assert CANARY not in sys.modules


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("runs", "labels"),
        ("journal", "value"),
        ("requests", "payload"),
        ("requests", "schema"),
        ("requests", "responses"),
        ("requests", "answer"),
        ("replies", "body"),
        ("users", "roles"),
        ("tokens", "workflows"),
        ("audit", "detail"),
    ],
)
async def test_nothing_in_a_row_is_imported_or_called(
    table: str, column: str, tmp_path: Path, watched: list[str]
) -> None:
    """S12: the same, written into the database file by somebody else."""
    path = tmp_path / "private" / "runs.db"
    async with world(path=path) as it:
        run = await it.start("operator", "guarded", "x")
        async with it.http("operator") as http:
            await http.post(f"/api/v1/runs/{run}/pause", json={}, headers={"Idempotency-Key": "k"})
            for planted in PLANTED:
                connection = apsw.Connection(str(path))
                connection.execute("DROP TRIGGER IF EXISTS audit_stays; DROP TRIGGER IF EXISTS audit_keeps")
                text = json.dumps(planted)
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = ? WHERE rowid > 1 OR ? = \'replies\'', (text, table)
                )
                connection.close()
                await everywhere(it, run)
                await http.post(f"/api/v1/runs/{run}/pause", json={}, headers={"Idempotency-Key": "k"})
    assert not watched
    assert CANARY not in sys.modules


# --------------------------------------------------------------------------- S13

INJECTIONS = [
    "' OR 1=1 --",
    "'; DROP TABLE canary; --",
    '"; DELETE FROM canary; --',
    "x' UNION SELECT secret FROM canary --",
    "%' AND 1=0 UNION SELECT 1,2,3 --",
    "\\'; DROP TABLE canary; --",
    "1; ATTACH DATABASE 'x' AS y",
    "') --",
    "NULL",
    "%",
    "_%",
    "*",
    "a') UNION ALL SELECT name FROM sqlite_master WHERE ('1'='1",
    "a=b' --",
    "$.x') OR 1=1 --",
    "x' || (SELECT secret FROM canary) || '",
    "' AND load_extension('x') --",
    "\x00",
    "a=\x00",
    "=",
    "a=",
]
# Every place in an address where a filter, sort or cursor is read.
FILTERED = [
    "/runs?status={}",
    "/runs?workflow={}",
    "/runs?label={}",
    "/runs?label={}=x",
    "/runs?label=a={}",
    "/runs?text={}",
    "/runs?startedAfter={}",
    "/runs?startedBefore={}",
    "/runs?parent={}",
    "/runs?limit={}",
    "/runs?cursor={}",
    "/runs?order={}",
    "/runs?sort={}",
    "/runs/{}",
    "/runs/{}/logs",
    "/runs/{}/events?after=0",
    "/requests?run={}",
    "/requests?kind={}",
    "/requests?cursor={}",
    "/requests/{}",
    "/events?after={}",
    "/audit?by={}",
    "/audit?run={}",
    "/audit?request={}",
    "/audit?before={}",
    "/audit/verify?head={}",
    "/tokens?user={}",
    "/workflows/{}",
    "/runs?{}=x",
]


async def inject(texts: list[str], path: Path) -> None:
    async with world(path=path) as it:
        await it.start("operator", "guarded", "x")
        connection = apsw.Connection(str(path))
        connection.execute("CREATE TABLE canary (secret TEXT); INSERT INTO canary VALUES ('canary-value')")
        connection.close()
        runs = [run.id for run in (await it.client.list()).items]
        async with it.http("admin") as http:
            for text in texts:
                for place in FILTERED:
                    quoted = httpx2.QueryParams({"x": text.encode("utf-8", "replace").decode()})
                    answer = await http.get("/api/v1" + place.format(str(quoted)[2:]))
                    assert answer.status_code < 500, (place, text, answer.text[:300])
                    assert "canary-value" not in answer.text
                for page in ("/runs?q={}", "/runs?status={}", "/audit?by={}", "/inbox?view={}", "/runs?label={}"):
                    answer = await http.get(page.format(str(httpx2.QueryParams({"x": text}))[2:]))
                    assert answer.status_code < 500, (page, text)
                    assert "canary-value" not in answer.text
        connection = apsw.Connection(str(path))
        assert list(connection.execute("SELECT secret FROM canary")) == [("canary-value",)]
        connection.execute("DROP TABLE canary")
        connection.close()
        assert [run.id for run in (await it.client.list()).items] == runs


async def test_published_payloads_reach_no_statement(tmp_path: Path) -> None:
    """S13: in every filter, key, cursor and id they are values, or refused as none; another table stays untouched."""
    await inject(INJECTIONS, tmp_path / "private" / "runs.db")


@settings(max_examples=5)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30), min_size=1, max_size=4))
def test_no_text_reaches_a_statement(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    """S13: the same for any text."""
    asyncio.run(inject(texts, tmp_path_factory.mktemp("any") / "private" / "runs.db"))


# --------------------------------------------------------------------------- S16


async def test_a_body_that_is_too_large_is_refused() -> None:
    """S16: by its declared length without reading it, and while it is read when it declares none or lies."""
    async with world() as it, it.http("operator") as http:
        kind = {"Content-Type": "application/json"}
        large = b'"' + b"x" * BODY_BYTES + b'"'
        assert (await http.post("/api/v1/runs", content=large, headers=kind)).status_code == 413
        read = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal read
            for _ in range(10_000):
                read += 65_536
                yield b" " * 65_536

        assert (await http.post("/api/v1/runs", content=endless(), headers=kind)).status_code == 413
        assert read < 2 * BODY_BYTES
        assert (
            await http.post("/api/v1/runs", content=large, headers=kind | {"Content-Length": "5"})
        ).status_code == 413
        for length in ("-1", "+5", "1e3", "0x10", "\u0661", "9" * 400):
            lying = {b"content-type": b"application/json", b"content-length": length.encode()}
            answer = await http.post("/api/v1/runs", content=b"{}", headers=lying)
            assert answer.status_code in (400, 413)


@pytest.mark.parametrize("depth", [_limits.JSON_DEPTH + 5, 5_000, 400_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'], ids=["lists", "objects"])
async def test_a_body_that_is_too_deep_is_refused(depth: int, opening: str) -> None:
    """S16: deep JSON is refused without running out of stack."""
    closing = "]" if opening == "[" else "1}"
    depth = min(depth, 900_000 // (len(opening) + len(closing)))
    inner = opening * depth + closing[:-1] + closing[-1] * depth
    async with world() as it, it.http("operator") as http:
        body = f'{{"workflow": "echoing", "input": {inner}}}'.encode()
        answer = await http.post("/api/v1/runs", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (413, 422), answer.text[:200]
        assert not (await it.client.list()).items


@pytest.mark.parametrize(
    "text",
    [
        '{"workflow": "echoing", "input": NaN}',
        '{"workflow": "echoing", "input": Infinity}',
        '{"workflow": "echoing", "input": "\\ud800"}',
        "{",
        "",
        "\ufeff{}",
        "[]",
        "1",
    ],
)
async def test_only_strict_json_is_taken(text: str) -> None:
    """S16: not-a-number, infinity, half characters and what is no object are refused with 4xx."""
    async with world() as it, it.http("operator") as http:
        answer = await http.post("/api/v1/runs", content=text.encode(), headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500
        assert not (await it.client.list()).items


async def test_compressed_bodies_are_refused() -> None:
    """S16: no decompression bomb is unpacked."""
    async with world() as it, it.http("operator") as http:
        for encoding in ("gzip", "deflate", "br", "zstd", "gzip, identity"):
            headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
            assert (await http.post("/api/v1/runs", content=b"\x1f\x8b", headers=headers)).status_code == 415


async def test_many_headers_are_refused() -> None:
    """S16: more than a hundred headers, or more than 32 KiB of them."""
    async with world() as it, it.http() as http:
        assert (await http.get("/healthz", headers={f"x-{n}": "1" for n in range(150)})).status_code == 431
        assert (await http.get("/healthz", headers={"x-large": "x" * 40_000})).status_code == 431


async def test_a_slow_sender_is_given_up() -> None:
    """S16: a request whose body does not come ends with 503 when its time is over; streams may take longer."""
    ended: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        kind = b"text/event-stream" if scope["path"] == "/stream" else b"text/plain"
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(scope["path"])

    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    guard = Guard(inner, ServerSettings(), request_s=0.02)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=guard), base_url=BASE) as http:
        slow = await http.post("/sign-in", content=never(), headers={"Content-Type": "multipart/form-data"})
        assert slow.status_code == 503
        assert slow.json()["code"] == "service-unavailable"
        assert (await http.get("/hangs")).status_code == 503
        assert ended == ["/hangs"]
        stream = asyncio.create_task(http.get("/stream"))
        for _ in range(5):
            assert (await http.get("/hangs")).status_code == 503
        assert "/stream" not in ended
        stream.cancel()
        await asyncio.gather(stream, return_exceptions=True)


async def test_one_person_cannot_take_all_streams() -> None:
    """S16: streams are limited for each person and in all, and whoever leaves makes room."""
    async with world(ServerSettings(streams_per_person=2, streams=3)) as it:

        def stream(person: str) -> RawStream:
            return RawStream(it.app, "/api/v1/events", {"Authorization": f"Bearer {it.secrets[person]}"})

        open_ones = [stream("viewer"), stream("viewer")]
        for one in open_ones:
            await one.until(b"retry:")
        third = stream("viewer")
        await third.ended.wait()
        assert third.status == 429
        open_ones.append(stream("admin"))
        await open_ones[-1].until(b"retry:")
        full = stream("operator")
        await full.ended.wait()
        assert full.status == 429
        await open_ones.pop(0).close()
        again = stream("operator")
        await again.until(b"retry:")
        for one in (*open_ones, again):
            await one.close()


async def test_a_form_with_many_fields_is_refused() -> None:
    """S16: neither many fields nor files are taken by the sign-in."""
    async with world() as it, it.http() as http:
        headers = {"Origin": BASE}
        fields = {f"f{n}": "x" for n in range(100)}
        assert (await http.post("/sign-in", data=fields, headers=headers)).status_code == 400
        files = {"file": ("x", b"x" * 10)}
        assert (await http.post("/sign-in", files=files, headers=headers)).status_code == 400


# --------------------------------------------------------------------------- S17


@pytest.mark.parametrize(
    "name",
    [
        "../rendering.py",
        "..%2frendering.py",
        "%2e%2e/rendering.py",
        "....//rendering.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "C:%5cwindows%5cwin.ini",
        "console.css%00.png",
        "console.css/",
        "./console.css",
        "templates/base.html",
        ".",
        "..",
        "",
        "console.css",
        "..\\rendering.py",
        "%252e%252e%252frendering.py",
        "\u2025/rendering.py",
    ],
    ids=ascii,
)
async def test_only_names_of_the_manifest_are_served(name: str) -> None:
    """S17: dotted, encoded, absolute and cut names, and files that exist but are not in the manifest, answer 404."""
    async with world() as it, it.http() as http:
        answer = await http.get(f"/static/{name}")
        assert answer.status_code in (303, 404), name
        assert "import" not in answer.text
        assert "root:" not in answer.text


async def test_ids_are_no_paths() -> None:
    """S17: the download of a log is named by the run's own id, whatever was asked for."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        async with it.http("viewer") as http:
            for part in ("../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd"):
                assert (await http.get(f"/runs/{part}/log.txt")).status_code in (400, 404)
            named = (await http.get(f"/runs/{run[:12]}/log.txt")).headers["content-disposition"]
        assert named == f'attachment; filename="{run}.log"'


async def test_large_bodies_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """S16: what strangers send at the same time is kept up to a limit; small requests pass all the same."""
    monkeypatch.setattr("osprotocol.server.guard.ARRIVING_BYTES", 300_000)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 250_000
        arrived.set()
        await go_on.wait()

    async with world() as it, it.http() as http:
        headers = {"Content-Type": "application/json"}
        first = asyncio.create_task(http.post("/api/v1/runs", content=slow(), headers=headers))
        await arrived.wait()
        refused = await http.post("/api/v1/runs", content=b"x" * 100_000, headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await http.post("/api/v1/runs", content=b"{}", headers=headers)).status_code == 401
        go_on.set()
        assert (await first).status_code == 401
        assert (await http.post("/api/v1/runs", content=b"x" * 100_000, headers=headers)).status_code == 401
