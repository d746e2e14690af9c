"""Odd names and payload traps at every door: library, HTTP and command line refuse them, or keep them exactly."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from osprotocol import RunOptions, connect, step, workflow
from osprotocol._json import parse
from osprotocol.cli.app import invoke
from osprotocol.context import Context
from osprotocol.errors import InvalidValueError, LimitExceededError, OSProtocolError
from tests.server.api.samples import call, started
from tests.server.security.world import world

LONG = "x" * 10_000
ODD_NAMES = {
    "empty": "",
    "space": " ",
    "slash": "a/b",
    "dot-dot": "..",
    "path": "../../etc/passwd",
    "NUL": "a\x00b",
    "10 kB": LONG,
    "line break": "a\nb",
    "other case": "ODD-ECHO",
    "look-alike": "odd-ech\u043e",
    "full width": "\uff4f\uff44\uff44",
    "dotless": "odd-\u0131",
    "combining": "e\u0301",
    "bidi": "\u202eoho",
    "percent": "%2e%2e",
    "quote": "' OR 1=1 --",
    "emoji": "\U0001f600",
    "surrogate": "\ud800",
}
TRAPS: dict[str, str] = {
    "beyond 64 bits": str(2**64 + 1), "4,000 digits": "9" * 4_000, "NUL": '"a\\u0000b"', "astral": '"\\ud83d\\ude00"',
    "lone surrogate": '"\\ud800"', "surrogate key": '{"\\udfff":1}', "NaN": "NaN", "infinity": "-Infinity",
    "1e400": "1e400", "key twice": '{"a":1,"\\u0061":2}', "nesting 65": "[" * 66 + "]" * 66,
    "nesting 100,000": "[" * 100_000 + "]" * 100_000, "5,000 digits": "9" * 5_000, "smallest": "5e-324", "-0.0": "-0.0",
}  # fmt: skip
KEPT = {"beyond 64 bits", "4,000 digits", "NUL", "astral", "smallest", "-0.0"}


@workflow(name="odd-echo")
async def echo(ctx: Context, value: Any) -> Any:
    return await ctx.step(same, value)


@step(name="odd-same")
async def same(value: Any) -> Any:
    return value


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSP_URL", str(tmp_path / "runs.db"))
    return tmp_path


def osp(*words: str) -> tuple[int, str]:
    """Exit code and everything that was said."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = invoke(list(words))
    return code, said.getvalue()


# ------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_odd_names_in_the_library(name: str, tmp_path: Path) -> None:
    """As an id nothing has it; as a key, label or filter it is refused, or it finds exactly itself."""
    odd = ODD_NAMES[name]
    async with connect(tmp_path / "runs.db") as client:
        for ask in (client.get, client.delete, client.evict, client.find_request):
            with pytest.raises(OSProtocolError):
                await ask(odd)
        try:
            options = RunOptions(labels={"odd": odd}, idempotency_key=odd)
            first = await echo.start("x", options)
        except OSProtocolError:
            assert not (await client.list()).items
            return
        assert await first.result == "x"
        again = await echo.start("x", options)
        assert again.id == first.id
        assert [one.id for one in (await client.list(label={"odd": odd})).items] == [first.id]
        others = [other for other in ODD_NAMES.values() if other not in (odd, "\ud800")]
        for other in others:
            assert not (await client.list(label={"odd": other})).items, other
        assert (await client.get(first.id)).snapshot.labels == {"odd": odd}


async def test_odd_names_over_http() -> None:
    """Neither as a path nor as a filter nor in a body does any of them meet an error of the server."""
    async with world() as made:
        await made.add_person("root", "viewer", "operator", "approver", "admin")
        for name, odd in ODD_NAMES.items():
            text = odd.encode("utf-8", "surrogatepass")
            escaped = "".join(f"%{one:02x}" for one in text)
            for method, path in (
                ("GET", f"/runs/{escaped}"),
                ("DELETE", f"/runs/{escaped}"),
                ("POST", f"/runs/{escaped}/pause"),
                ("GET", f"/requests/{escaped}"),
                ("POST", f"/workers/{escaped}/evict"),
                ("DELETE", f"/tokens/{escaped}"),
                ("GET", f"/runs?text={escaped}"),
                ("GET", f"/runs?workflow={escaped}"),
                ("GET", f"/runs?label={escaped}=x"),
                ("GET", f"/runs?label=odd={escaped}&status=failed"),
                ("GET", f"/runs?parent={escaped}"),
                ("GET", f"/runs?cursor={escaped}"),
                ("GET", f"/requests?run={escaped}"),
            ):
                answer = await call(made, "root", method, path)
                assert answer.status_code < 500, (name, method, path, answer.text)
            bodies: tuple[dict[str, Any], ...] = (
                {"workflow": odd}, {"workflow": "api-count", "input": 0, "options": {"labels": {odd: odd}}},
                {"workflow": "api-count", "input": 0, "options": {"idempotencyKey": odd}},
            )  # fmt: skip
            for body in bodies:
                answer = await call(made, "root", "POST", "/runs", json=None, content=json.dumps(body).encode(),
                                    headers={"Content-Type": "application/json"})  # fmt: skip
                assert answer.status_code in (200, 201, 400, 404, 409, 413, 422), (name, answer.text)
            answer = await call(
                made, "root", "POST", "/users", content=json.dumps({"name": odd, "roles": ["viewer"]}).encode(),
                headers={"Content-Type": "application/json"},
            )  # fmt: skip
            assert answer.status_code in (201, 400, 409, 413, 422), (name, answer.text)
        for run in (await made.client.list(limit=200)).items:
            assert (await call(made, "root", "GET", f"/runs/{run.id}")).status_code == 200


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_on_the_command_line(name: str, place: Path) -> None:
    """A sentence and an exit code for each, never a traceback; a database is never made of one by mistake."""
    odd = ODD_NAMES[name]
    osp("run", "nothing.py:x")
    for words in (
        ("show", odd),
        ("cancel", odd),
        ("delete", odd),
        ("logs", odd),
        ("evict", odd),
        ("approve", odd),
        ("list", "--workflow", odd),
        ("list", "--label", odd),
        ("list", "--label", f"a={odd}"),
        ("list", "--since", odd),
        ("run", odd),
        ("run", f"{odd}:x"),
        ("list", "--db", odd),
        ("list", "--status", odd),
        ("prune", "--older-than", odd),
        ("serve", "--host", odd, "--port", odd),
        ("list", "--limit", odd),
    ):
        code, said = osp(*words)
        assert code != 0 or words[0] == "list", (words, said)
        assert "Traceback" not in said, (words, said)
        assert code != 70, (words, said)


# --------------------------------------------------------------------------------------- payloads


@pytest.mark.parametrize("name", TRAPS)
async def test_traps_in_the_library(name: str, tmp_path: Path) -> None:
    """As text from outside; and what is a value goes through a run, its step and its result."""
    if name not in KEPT:
        with pytest.raises((InvalidValueError, LimitExceededError)):
            parse(TRAPS[name], "value")
        return
    value = parse(TRAPS[name], "value")
    async with connect(tmp_path / "runs.db") as client:
        run = await client.create_run(echo, {"a": [value]}).start()
        result = await run.result
    assert repr(result) == repr({"a": [value]})


async def test_pythons_own_traps_in_the_library(tmp_path: Path) -> None:
    """A tuple comes back as a list at once, keys that are not text and values without JSON are refused."""
    async with connect(tmp_path / "runs.db") as client:
        assert await (await client.create_run(echo, {"a": (1, (2,))}).start()).result == {"a": [1, [2]]}
        for bad in ({1: 2}, {None: 1}, float("nan"), float("inf"), "\udfff", {"a": {1, 2}}, b"x", 1j, object()):
            with pytest.raises(InvalidValueError):
                await client.create_run(echo, bad).start()
        assert len((await client.list()).items) == 1


async def test_traps_over_http() -> None:
    """As an input, an answer, a payload and a schema: 4xx, or kept as it was sent."""
    async with world() as made:
        await made.add_person("root", "viewer", "operator", "approver", "admin")
        for name, text in TRAPS.items():
            run = await started(made, "api-ask")
            for path, body in (
                ("/runs", f'{{"workflow":"api-echo","input":{text}}}'),
                (f"/runs/{run}/requests", f'{{"kind":"approval","prompt":"p","payload":{text}}}'),
                (f"/runs/{run}/requests", f'{{"kind":"input","prompt":"p","schema":{{"const":{text}}}}}'),
            ):
                answer = await call(made, "root", "POST", path, content=body.encode(),
                                    headers={"Content-Type": "application/json"})  # fmt: skip
                kept = answer.status_code == 201
                assert kept == (name in KEPT), (name, path, answer.text[:300])
                assert kept or answer.status_code in (413, 422), (name, path, answer.text[:300])
                if kept and path == "/runs":
                    found = (await call(made, "root", "GET", f"/runs/{answer.json()['id']}")).text
                    assert repr(json.loads(found)["result"]) == repr(json.loads(text)), name
                if kept and '"payload"' in body:
                    assert repr(answer.json()["payload"]) == repr(json.loads(text)), name
            assert (await call(made, "root", "GET", f"/requests?run={run}&open=all")).status_code == 200


@pytest.mark.parametrize("name", TRAPS)
def test_traps_on_the_command_line(name: str, place: Path) -> None:
    """Inside of an object, where no text could be meant: refused in a sentence, or kept."""
    own = f"odd_{list(TRAPS).index(name)}"  # modules and workflows are known once in a process
    (place / f"{own}.py").write_text(
        "from typing import Any\nfrom osprotocol import Context, workflow\n"
        f"@workflow(name='{own}')\nasync def echo(ctx: Context, value: dict[str, Any]) -> Any:\n    return value\n",
        encoding="utf-8",
    )
    code, said = osp("run", f"{own}.py:{own}", f'{{"a":{TRAPS[name]}}}', "--json")
    assert "Traceback" not in said
    assert (code == 0) == (name in KEPT), said[:500]
    if name in KEPT:
        assert (
            TRAPS[name].strip('"')[:3_000] in said
            or json.dumps(json.loads(TRAPS[name]))[1:-1] in said
            or name == "astral"
        )
