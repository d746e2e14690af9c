"""`osp` against a server: --url, workflow names as targets, and what only works on the file."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from osprotocol.cli.target import load_workflows
from osprotocol.connect import connect
from osprotocol.testing.served import Served
from tests.cli.conftest import Osp, folder, osp

__all__ = ["folder", "osp"]


class Background:
    """A server and its worker in a thread of their own."""

    def __init__(self, path: Path) -> None:
        self.url = self.token = ""
        self._path = path
        self._is_up, self._loop = threading.Event(), asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    async def _serve(self) -> None:
        async with connect(self._path) as client, Served(client) as served:
            self.url, self.token = served.url, (await served.token_of("ann")).secret
            self._is_up.set()
            await self._stop.wait()

    def __enter__(self) -> "Background":
        self._thread.start()
        assert self._is_up.wait(30)
        return self

    def __exit__(self, *ended: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def url(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of the workflows in `flow.py`; its token is in the environment."""
    load_workflows(["flow.py"])
    with Background(folder / "runs.db") as server:
        monkeypatch.setenv("OSP_TOKEN", server.token)
        yield server.url


def test_a_workflow_is_run_by_its_name(osp: Osp, url: str) -> None:
    """`osp run NAME --url` starts the server's workflow, follows it and prints its result."""
    said = osp("run", "order", "item=tea", "count=2", "--url", url, "--json")
    assert (said.code, said.json["result"]) == (0, {"item": "tea", "count": 2, "express": False})


def test_a_script_starts_what_only_the_server_has(url: str) -> None:
    """`client.workflow(name)` of another process takes and gives plain JSON."""
    script = """
import asyncio
from osprotocol import connect

async def main():
    async with connect() as client:
        order = client.workflow("order")
        execution = await client.create_run(order, {"item": "tea", "count": 2}).start()
        print(client.person, await execution.result)

asyncio.run(main())
"""
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "OSP_URL": url}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (said.stdout, said.stderr) == ("ann {'item': 'tea', 'count': 2, 'express': False}\n", "")


def test_a_target_of_this_machine_is_started_there_by_its_name(osp: Osp, url: str) -> None:
    """`osp run flow.py:NAME --url` takes the input's form from here; the server executes."""
    said = osp("run", "flow.py:order", "item=tea", "count=2", "--url", url, "--json")
    assert (said.code, said.json["status"]) == (0, "completed")


def test_a_run_is_answered_steered_and_read(osp: Osp, url: str) -> None:
    """Approve, respond, show, logs, events, list, inbox, pause, resume and cancel work with --url, and OSP_URL."""
    said = osp("run", "publish", "Tokyo", "--no-wait", "--quiet", "--json", "--url", url)
    assert said.code == 7
    run_id = said.json["id"]
    [request] = osp("inbox", "--json", "--url", url).lines
    approved = osp("approve", request["id"], "--json", "--db", url)
    assert approved.json["responses"][0]["by"] == "ann"
    for word in ("pause", "resume"):
        assert osp(word, run_id, "--url", url).code == 0
    while not (waiting := osp("inbox", "--json", "--url", url).lines):
        pass
    assert osp("respond", waiting[0]["id"], "Title", "--url", url).code == 0
    while (shown := osp("show", run_id, "--json", "--url", url).json)["status"] != "completed":
        pass
    assert shown["result"] == "Title: draft about Tokyo"
    assert [run["id"] for run in osp("list", "--json", "--url", url).lines] == [run_id]
    assert "drafted" in osp("logs", run_id, "--url", url).out
    assert osp("events", run_id, "--json", "--url", url).lines == osp("events", "--json", "--url", url).lines
    assert osp("cancel", run_id, "--url", url).code == 5
    assert osp("delete", run_id, "--url", url).code == 0
    assert osp("show", run_id, "--url", url).code == 4


def test_leaving_a_run_names_the_server(osp: Osp, url: str) -> None:
    """A run that waits is left with the commands that answer it on the same server."""
    said = osp("run", "publish", "Tokyo", "--no-wait", "--url", url)
    assert said.code == 7
    assert f"osp --db {url} approve" in said.err


def test_an_input_that_does_not_fit_is_the_servers_to_refuse(osp: Osp, url: str) -> None:
    """An input that does not fit is refused with the path, as for a workflow of this machine."""
    said = osp("run", "order", '{"item": "tea", "count": "many"}', "--url", url)
    assert said.code == 2
    assert "$.count" in said.err


def test_an_unknown_name_lists_the_known_ones(osp: Osp, url: str) -> None:
    """A name that the server does not have is not found, and those that it has are named."""
    said = osp("run", "publsih", "Tokyo", "--url", url)
    assert said.code == 4
    assert "publish" in said.err


def test_the_servers_workflows_are_listed(osp: Osp, url: str) -> None:
    """`osp workflows --url` without a target lists those of the server."""
    names = {info["name"] for info in osp("workflows", "--url", url, "--json").lines}
    assert {"publish", "order", "count"} <= names


@pytest.mark.parametrize("words", [("backup", "copy.db"), ("doctor",), ("worker", "flow.py")])
def test_what_needs_the_file_says_so(osp: Osp, url: str, words: tuple[str, ...]) -> None:
    """Commands that need the database file say so in one line."""
    said = osp(*words, "--url", url)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "not supported over HTTP" in said.err


@pytest.mark.parametrize("words", [("user", "list"), ("token", "list"), ("audit", "list")])
def test_people_are_kept_where_the_file_is(osp: Osp, url: str, words: tuple[str, ...]) -> None:
    """People, tokens and the audit log are kept on the server's machine, and the command says so."""
    said = osp(*words, "--url", url)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "server" in said.err


def test_acting_as_somebody_else_is_refused(osp: Osp, url: str) -> None:
    """--by with another name is refused by a server, never ignored."""
    osp("run", "publish", "Tokyo", "--no-wait", "--quiet", "--url", url)
    [request] = osp("inbox", "--json", "--url", url).lines
    said = osp("approve", request["id"], "--by", "bo", "--url", url)
    assert (said.code, "ann may not act as 'bo'" in said.err) == (5, True)


def test_a_wrong_token_is_one_line(osp: Osp, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that the server does not know is one line that says what to do."""
    monkeypatch.setenv("OSP_TOKEN", "osp_0000_wrong")
    said = osp("list", "--url", url)
    assert (said.code, said.err.count("\n")) == (5, 1)
    assert "osp token create" in said.err


def test_nobody_there_is_one_line(osp: Osp) -> None:
    """A server that is not there is one line, and trouble of the ground under us."""
    said = osp("list", "--url", "http://127.0.0.1:1")
    assert (said.code, said.err.count("\n")) == (6, 1)
