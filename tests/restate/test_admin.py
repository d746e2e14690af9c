"""Endpoints that die or hang: a living one takes over, and no call is lost or done twice."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import restate

from osprotocol._restate import admin as admin_module
from osprotocol._restate.admin import Admin
from osprotocol._restate.endpoint import Endpoint
from osprotocol.errors import EngineError
from tests.restate.nodes import RestateNode

pytestmark = pytest.mark.restate

_SPAWN = multiprocessing.get_context("spawn")
_PATIENCE_S = 60.0

# In the ledger's name, because only our own services are taken over.
counter = restate.VirtualObject(
    "OspLedger",
    inactivity_timeout=timedelta(milliseconds=500),
    abort_timeout=timedelta(milliseconds=500),
    invocation_retry_policy=restate.InvocationRetryPolicy(
        initial_interval=timedelta(milliseconds=50), max_interval=timedelta(seconds=1)
    ),
)


@counter.handler()
async def add(ctx: restate.ObjectContext, asked: dict[str, Any]) -> int:
    """Count; with a file named, say that we are in the middle, and wait until the file is gone."""
    value = (await ctx.get("value", type_hint=int)) or 0
    if asked.get("binds"):
        await ctx.run_typed("bound", lambda: None)  # from here on the invocation is bound to this endpoint
    if "file" in asked:
        Path(asked["file"] + ".reached").touch()
        while Path(asked["file"]).exists():  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.01)
    ctx.set("value", value + int(asked["n"]))
    return value + int(asked["n"])


def _serve(told: Connection) -> None:
    endpoint = Endpoint([counter], "127.0.0.1")
    endpoint.start()
    told.send(endpoint.uri)
    signal.pause()


class Process:
    """Another process that serves the counter."""

    def __init__(self) -> None:
        ours, theirs = _SPAWN.Pipe()
        self._process: SpawnProcess = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        self.uri: str = ours.recv()

    def signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.join()

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestateNode]:
    """A server of our own: the counter takes the ledger's name."""
    with RestateNode(tmp_path_factory.mktemp("admin")) as started:
        yield started


@pytest.fixture
def admin(node: RestateNode) -> Iterator[Admin]:
    """Its admin API, with nothing registered."""
    client = Admin(node.admins)
    for known in client.deployments():
        httpx2.delete(f"{node.admin}/deployments/{known.id}?force=true", trust_env=False).raise_for_status()
    yield client
    client.close()


@pytest.fixture
def here() -> Iterator[Endpoint]:
    """An endpoint of this process."""
    endpoint = Endpoint([counter], "127.0.0.1")
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture
def there() -> Iterator[Process]:
    """An endpoint that can be killed."""
    process = Process()
    yield process
    process.close()


class Counting:
    """Calls of one counter, which come in at the same time."""

    def __init__(self, node: RestateNode, folder: Path) -> None:
        self.key = uuid4().hex
        self._url = f"{node.ingress}/OspLedger/{self.key}/add"
        self._file = folder / self.key
        self._threads = ThreadPoolExecutor(8)

    def add(self, n: int) -> int:
        return int(httpx2.post(self._url, json={"n": n}, timeout=_PATIENCE_S, trust_env=False).raise_for_status().text)

    def hang(self, n: int, *, binds: bool) -> Future[int]:
        """Call, and come back when the handler is in the middle."""
        self._file.touch()
        asked = {"n": n, "binds": binds, "file": str(self._file)}
        call = self._threads.submit(
            lambda: int(
                httpx2.post(self._url, json=asked, timeout=_PATIENCE_S, trust_env=False).raise_for_status().text
            )
        )
        until(Path(f"{self._file}.reached").exists)
        return call

    def queue(self, n: int) -> Future[int]:
        return self._threads.submit(self.add, n)

    def release(self) -> None:
        self._file.unlink()


@pytest.fixture
def counting(node: RestateNode, tmp_path: Path) -> Counting:
    """A counter that nobody else counts."""
    return Counting(node, tmp_path)


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def taken_over(admin: Admin, uri: str, *calls: Future[int]) -> list[int]:
    """Take over again and again, as a worker does whose calls get no answer; gives the answers."""

    def is_done() -> bool:
        admin.take_over(uri)
        return all(call.done() for call in calls)

    until(is_done)
    return [call.result() for call in calls]


def test_what_is_registered_last_is_called(admin: Admin, here: Endpoint, there: Process) -> None:
    """Also when Restate knew it already."""
    seen = []
    for uri in (here.uri, there.uri, here.uri):
        admin.register(uri)
        newest = admin.newest()
        seen.append(newest and newest.uri)
    assert seen == [here.uri, there.uri, here.uri]


def test_a_node_that_is_away_is_passed_over(node: RestateNode, admin: Admin) -> None:
    """The next one is asked."""
    client = Admin(("http://127.0.0.1:9", node.admin))
    assert client.version() == admin.version()
    client.close()


def test_a_question_that_is_wrong_is_told(admin: Admin) -> None:
    """What Restate says is in the error."""
    with pytest.raises(EngineError, match="no_such_table"):
        admin.query("SELECT * FROM no_such_table")


def test_nothing_is_registered_and_somebody_takes_over(admin: Admin, here: Endpoint) -> None:
    """Then there is one."""
    admin.take_over(here.uri)
    newest = admin.newest()
    assert newest is not None
    assert newest.uri == here.uri


def test_an_endpoint_that_lives_stays(admin: Admin, here: Endpoint, there: Process) -> None:
    """Who takes over without need changes nothing."""
    admin.register(there.uri)
    known = admin.deployments()
    assert (admin.take_over(here.uri), admin.deployments()) == (0, known)


@pytest.mark.parametrize("binds", [False, True])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_call_hangs_on_an_endpoint_that_is_gone(
    admin: Admin, here: Endpoint, there: Process, counting: Counting, how: int, binds: bool
) -> None:
    """It and those behind it are done by the heir, each once, and the other one changes nothing when it wakes."""
    admin.register(there.uri)
    counting.add(1)
    calls = [counting.hang(10, binds=binds), counting.queue(100)]
    there.signal(how)
    counting.release()
    answers = taken_over(admin, here.uri, *calls)
    if how == signal.SIGSTOP:
        there.signal(signal.SIGCONT)
    assert (max(answers), counting.add(0)) == (111, 111)


def test_two_take_over_at_the_same_time(admin: Admin, here: Endpoint, there: Process, counting: Counting) -> None:
    """Each call is done once, by one or the other, and what is called lives."""
    second = Endpoint([counter], "127.0.0.1")
    second.start()
    admin.register(there.uri)
    calls = [counting.hang(10, binds=True), *(counting.queue(100) for _ in range(5))]
    there.signal(signal.SIGKILL)
    counting.release()
    both = [threading.Thread(target=taken_over, args=(admin, uri, *calls)) for uri in (here.uri, second.uri)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    newest = admin.newest()
    assert newest is not None
    assert newest.uri in (here.uri, second.uri)
    assert counting.add(0) == 510
    httpx2.delete(f"{admin.addresses[0]}/deployments/{newest.id}?force=true", trust_env=False)
    second.stop()


def test_the_record_that_a_call_is_bound_to_was_removed(
    node: RestateNode, admin: Admin, here: Endpoint, there: Process, counting: Counting
) -> None:
    """It is bound to the newest one and goes on."""
    bound = admin.register(there.uri)
    call = counting.hang(10, binds=True)
    there.signal(signal.SIGKILL)
    counting.release()
    admin.register(here.uri)
    httpx2.delete(f"{node.admin}/deployments/{bound}?force=true", trust_env=False).raise_for_status()
    assert taken_over(admin, here.uri, call) == [10]


def test_a_call_that_rests_for_good_goes_on(
    node: RestateNode, admin: Admin, here: Endpoint, there: Process, counting: Counting
) -> None:
    """Restate pauses what failed too often; who takes over wakes it."""
    admin.register(there.uri)
    call = counting.hang(10, binds=True)
    there.signal(signal.SIGKILL)
    counting.release()

    def is_paused() -> bool:
        found = admin.query(f"SELECT id, status FROM sys_invocation WHERE target_service_key = '{counting.key}'")
        httpx2.patch(f"{node.admin}/invocations/{found[0]['id']}/pause", trust_env=False)
        return [row["status"] for row in found] == ["paused"]

    until(is_paused)
    assert taken_over(admin, here.uri, call) == [10]


def test_who_stops_gives_way(admin: Admin, here: Endpoint, there: Process) -> None:
    """Restate calls another endpoint that lives before ours stops."""
    admin.register(there.uri)
    admin.register(here.uri)
    gave_way = admin.step_down(here.uri)
    newest = admin.newest()
    assert (gave_way, newest and newest.uri) == (True, there.uri)


def test_the_last_one_cannot_give_way(admin: Admin, here: Endpoint, there: Process) -> None:
    """What is dead is no heir."""
    admin.register(there.uri)
    admin.register(here.uri)
    there.signal(signal.SIGKILL)
    assert admin.step_down(here.uri) is False


def test_records_of_dead_endpoints_are_removed(
    admin: Admin, here: Endpoint, there: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once they were dead for a while; those that live stay."""
    admin.register(there.uri)
    admin.register(here.uri)
    assert admin.sweep() == 0
    there.signal(signal.SIGKILL)
    assert admin.sweep() == 0
    monkeypatch.setattr(admin_module, "_DEAD_S", 0.0)
    assert (admin.sweep(), [one.uri for one in admin.deployments()]) == (1, [here.uri])


def test_a_record_that_a_call_is_bound_to_stays(
    admin: Admin, here: Endpoint, there: Process, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However dead the endpoint is."""
    monkeypatch.setattr(admin_module, "_DEAD_S", 0.0)
    bound = admin.register(there.uri)
    call = counting.hang(10, binds=True)
    there.signal(signal.SIGKILL)
    counting.release()
    admin.register(here.uri)
    assert (admin.sweep(), bound in [one.id for one in admin.deployments()]) == (0, True)
    assert taken_over(admin, here.uri, call) == [10]
