"""connect("http://..."): addresses, tokens, and what a server cannot do for a client."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from osprotocol import errors as e
from osprotocol._http.address import find_token, read_address
from osprotocol.connect import connect
from osprotocol.protocol.run import RunOptions
from tests.http.servers import PERSON, asks, defined, echo, site


@pytest.mark.parametrize("url", ["http://runs.example.org", "http://10.0.0.7:8321", "http://[2001:db8::1]:80"])
def test_plain_http_to_another_machine_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http is refused where others could read the token, unless OSP_ALLOW_HTTP=1 says that they may."""
    with pytest.raises(e.InvalidOptionError, match="OSP_ALLOW_HTTP=1"):
        connect(url)
    monkeypatch.setenv("OSP_ALLOW_HTTP", "1")
    connect(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8321", "http://localhost", "http://[::1]:1", "https://runs.example.org/osp/"]
)
def test_this_machine_and_https_are_taken(url: str) -> None:
    """Plain http to this machine is taken, and https to any."""
    assert read_address(url).url == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["http://", "http://a b", "http://ann:secret@127.0.0.1", "http://127.0.0.1:99999", "https://x/?token=1"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """A URL without host, with a password, a wrong port or a query is refused, and no secret is repeated."""
    with pytest.raises(e.InvalidOptionError) as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_the_token_is_the_argument_then_the_variable_then_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is that of the argument, else of OSP_TOKEN, else of the file that OSP_TOKEN_FILE names."""
    (tmp_path / "token").write_text("osp_file\n")
    assert find_token(None) is None
    monkeypatch.setenv("OSP_TOKEN_FILE", str(tmp_path / "token"))
    known = [find_token(None)]
    monkeypatch.setenv("OSP_TOKEN", "osp_variable")
    known += [find_token(None), find_token("osp_argument")]
    assert [token and token.secret for token in known] == ["osp_file", "osp_variable", "osp_argument"]


def test_a_token_shows_nowhere() -> None:
    """The text of a token is not in its repr."""
    assert "secret" not in repr(find_token("osp_secret"))


@pytest.mark.parametrize("token", ["osp x", "osp\nx", "ösp", " "])
def test_what_cannot_be_a_token_is_refused(token: str) -> None:
    """A token with spaces, line breaks or other letters is refused before it is sent."""
    with pytest.raises(e.InvalidOptionError):
        connect("http://127.0.0.1:1", token=token)


def test_a_token_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A token file that is not there is an error that names it."""
    monkeypatch.setenv("OSP_TOKEN_FILE", str(tmp_path / "nothing"))
    with pytest.raises(e.InvalidOptionError, match="nothing"):
        connect("http://127.0.0.1:1")


def test_a_token_for_a_file_is_refused(tmp_path: Path) -> None:
    """A token means nothing for a database file, and is not ignored."""
    with pytest.raises(e.InvalidOptionError, match="token"):
        connect(tmp_path / "runs.db", token="osp_x")


async def test_without_the_packages_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without httpx2 the error is one line that says what to install."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(e.NotSupportedError) as caught:
        await connect("http://127.0.0.1:1").open()
    assert 'pip install "osprotocol[http]"' in str(caught.value)


async def test_nobody_there_is_one_line() -> None:
    """A server that is not there is an UnreachableError of one line that names it."""
    with pytest.raises(e.UnreachableError) as caught:
        await connect("http://127.0.0.1:1").open()
    assert str(caught.value).startswith("http://127.0.0.1:1: cannot be reached")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "body"), [("text/html", "hi"), ("application/json", "{}"), ("application/json", "[")])
async def test_another_kind_of_server_is_told_apart(kind: str, body: str) -> None:
    """A server that is none of ours is an EngineError that names it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(f"{head}{body}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(e.EngineError, match=f"127.0.0.1:{port}"):
        await connect(f"http://127.0.0.1:{port}").open()
    server.close()


async def test_without_a_token_nobody_is_signed_in() -> None:
    """No token and a wrong one are NotSignedInError when the client is entered."""
    async with site() as s:
        for token in (None, "osp_0000_wrong"):
            with pytest.raises(e.NotSignedInError):
                await connect(s.served.url, token=token).open()


async def test_a_revoked_token_is_not_signed_in() -> None:
    """A token that is revoked while a client is connected is refused from then on."""
    async with site() as s:
        [token] = s.served.books.tokens(PERSON)
        await s.served.books.revoke_token(token.id, by="tests")
        with pytest.raises(e.NotSignedInError):
            await s.client.list()


async def test_the_token_of_the_environment_signs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """OSP_URL and OSP_TOKEN are enough to connect; the person is the token's."""
    async with site() as s:
        monkeypatch.setenv("OSP_URL", s.served.url)
        monkeypatch.setenv("OSP_TOKEN", await s.token("bo"))
        async with connect() as client:
            assert client.person == "bo"


async def test_a_role_that_is_missing_is_named() -> None:
    """What the person's roles do not allow is a NotPermittedError with the person."""
    async with site() as s, defined(echo) as workflow:
        token = await s.served.token_of("vic", roles=("viewer",))
        async with connect(s.served.url, token=token.secret) as client:
            with pytest.raises(e.NotPermittedError) as caught:
                await client.create_run(workflow, 1).start()
    assert caught.value.person == "vic"


async def test_nobody_acts_as_somebody_else() -> None:
    """A command by another person is refused and changes nothing; the own name counts however it is written."""
    async with site() as s, defined(asks) as workflow:
        execution = await s.client.create_run(workflow).start()
        await s.backend.clock.settle()
        await execution.refresh()
        for act in (execution.approve, execution.reject, execution.pause, execution.cancel):
            with pytest.raises(e.NotPermittedError) as caught:
                await act(by="bo")
            assert caught.value.person == PERSON
        assert len(execution.requests) == 1
        await execution.approve(by=" ANN ")
        assert await execution.result == "approved"


async def test_functions_in_options_are_refused() -> None:
    """Functions in RunOptions, which could not be called here, are refused and nothing starts."""
    async with site() as s, defined(echo) as workflow:
        with pytest.raises(e.NotSupportedError):
            await s.client.create_run(workflow, 1, RunOptions(on_complete=print)).start()
        assert (await s.client.list()).items == ()


async def test_what_it_cannot_do_it_says(tmp_path: Path) -> None:
    """Capabilities say what is not possible over HTTP, and doing it is a NotSupportedError."""
    async with site() as s:
        assert not s.client.capabilities["callbacks"]
        assert not s.client.capabilities["backup"]
        with pytest.raises(e.NotSupportedError):
            await s.client.backup(tmp_path / "copy.db")


async def test_a_closed_client_says_so() -> None:
    """A client that was closed says so."""
    async with site() as s:
        await s.client.close()
        with pytest.raises(e.EngineClosedError):
            await s.client.list()


async def test_another_loop_is_told_apart() -> None:
    """A client used from another event loop says so."""
    async with site() as s:
        with pytest.raises(e.WrongLoopError):
            await asyncio.to_thread(asyncio.run, s.client.list())


async def test_numbers_of_any_size_come_through_exactly() -> None:
    """Integers of any size, floats and text in every script go to the server and back unchanged."""
    value = {
        "n": [10**40, -(2**63), 0, 0.1, -0.0, 1e300],
        "t": ["\u2028\u0085\r\n", "\U0001d518", "\x01", ""],
        "e": [None, {}],
    }

    async with site() as s, defined(echo) as workflow:
        execution = await s.client.create_run(workflow, value).start()
        assert repr(await execution.result) == repr(value)


async def test_statistics_workers_and_health_are_asked_of_the_server() -> None:
    """Statistics, workers and problems are the server's."""
    async with site() as s, defined(echo) as workflow:
        await (await s.client.create_run(workflow, 1).start()).result
        assert (await s.client.statistics()).runs.keys() == (await s.backend.statistics()).runs.keys()
        assert [worker.id for worker in await s.client.workers()] == [one.id for one in await s.backend.workers()]
        assert await s.client._engine.problems() == []
        with pytest.raises(e.WorkerNotFoundError):
            await s.client.evict("nobody")


async def test_ids_that_are_none_find_nothing() -> None:
    """What cannot be an id finds no run and no request, and is never part of a path."""
    async with site() as s:
        for wrong in ("", "..", "a/b", "?x=1", "x" * 300, "é", "%2e"):
            with pytest.raises(e.RunNotFoundError):
                await s.client.get(wrong)
            with pytest.raises(e.RequestNotFoundError):
                await s.client.find_request(wrong)


async def test_only_a_worker_commands_as_one() -> None:
    """Commands that only the worker of a run gives are refused."""
    from osprotocol._lifecycle import commands as c

    async with site() as s, defined(asks) as workflow:
        execution = await s.client.create_run(workflow).start()
        for command in (c.Complete(1, "1"), c.Claim(1), c.TimerDue(), c.Pause("ann", following=True)):
            with pytest.raises(e.NotSupportedError):
                await s.client._engine.execute(execution.id, command)


def test_importing_the_library_does_not_import_http() -> None:
    """`import osprotocol` brings no HTTP package with it."""
    import subprocess

    program = "import sys, osprotocol; assert not {'httpx2', 'fastapi', 'uvicorn'} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)
