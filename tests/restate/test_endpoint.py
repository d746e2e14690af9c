"""The endpoint: a server in a thread of its own, one for a process, that Restate calls."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
import restate

from osprotocol._restate import endpoint
from osprotocol._restate.address import Address
from osprotocol._restate.admin import Admin
from osprotocol.errors import EngineError
from tests.restate.nodes import RestateNode

KEY = "publickeyv1_GC7AEAdr3FeYQupQHja3iWSLxm2jBQRjdBqcAkufzSPY"
LOCAL = Address.parse("restate:http://127.0.0.1", {})

echo = restate.VirtualObject("EndpointEcho")
began = threading.Event()


@echo.handler(kind="shared")
async def say(ctx: restate.ObjectSharedContext, text: str) -> str:
    """The same."""
    return text


@echo.handler(kind="shared")
async def hang(ctx: restate.ObjectSharedContext) -> None:
    """No end."""
    began.set()
    await asyncio.sleep(3_600)


@pytest.fixture
def served() -> Iterator[endpoint.Endpoint]:
    """The endpoint of this process."""
    joined = endpoint.join(LOCAL, [echo])
    yield joined
    endpoint.leave(joined)


def answers(uri: str, path: str = "/health") -> int | None:
    try:
        return httpx2.get(uri + path, trust_env=False, timeout=5).status_code
    except httpx2.TransportError:
        return None


def test_it_listens_when_it_has_started(served: endpoint.Endpoint) -> None:
    """A free port is taken and told, and what comes there is answered, whatever this thread does meanwhile."""
    assert urlsplit(served.uri).hostname == "127.0.0.1"
    assert answers(served.uri) == 200


def test_the_engines_of_a_process_share_one(served: endpoint.Endpoint) -> None:
    """Who joins with the same address gets the same endpoint, and it stops with the last one who leaves."""
    other = endpoint.join(LOCAL, [echo])
    stopping: list[str] = []
    endpoint.leave(other, lambda: stopping.append("too early"))
    assert (other is served, stopping, answers(served.uri)) == (True, [], 200)


def test_the_last_one_to_leave_stops_it() -> None:
    """Before it stops something can be done; afterwards nobody listens there."""
    joined = endpoint.join(LOCAL, [echo])
    seen: list[int | None] = []
    endpoint.leave(joined, lambda: seen.append(answers(joined.uri)))
    assert (seen, answers(joined.uri), joined.is_serving) == ([200], None, False)


def test_a_port_in_use_is_told_in_one_line() -> None:
    """The error names the port and says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = Address.parse(f"restate:http://127.0.0.1?endpoint=http://127.0.0.1:{port}", {})
        with pytest.raises(EngineError, match=f"127.0.0.1:{port}: .*in use.*endpoint=http") as refusal:
            endpoint.join(told, [echo])
    assert "\n" not in str(refusal.value)


def test_an_address_that_is_told_is_the_one_that_restate_gets() -> None:
    """Only the port of the told address is ours: the name may be that of something before us."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    joined = endpoint.join(Address.parse(f"restate:http://127.0.0.1?endpoint=http://me.example:{port}", {}), [echo])
    try:
        assert (joined.uri, answers(f"http://127.0.0.1:{port}")) == (f"http://me.example:{port}", 200)
    finally:
        endpoint.leave(joined)


def test_what_is_not_signed_is_refused() -> None:
    """With a key nobody but its owner can call a handler or ask what there is."""
    joined = endpoint.join(Address.parse("restate:http://127.0.0.1", {"OSP_RESTATE_IDENTITY_KEYS": KEY}), [echo])
    try:
        invoked = httpx2.post(f"{joined.uri}/invoke/EndpointEcho/say", trust_env=False).status_code
        assert (answers(joined.uri, "/discover"), invoked) == (401, 401)
    finally:
        endpoint.leave(joined)


def test_a_host_without_address_is_told() -> None:
    """The name is in the error."""
    with pytest.raises(EngineError, match="no way to this host"):
        endpoint.own_host("http://nowhere.invalid:1")


@pytest.mark.restate
def test_restate_calls_it(restate_node: RestateNode, served: endpoint.Endpoint) -> None:
    """A registered endpoint executes what comes in at Restate."""
    admin = Admin(restate_node.admins)
    admin.register(served.uri)
    admin.close()
    said = httpx2.post(f"{restate_node.ingress}/EndpointEcho/k/say", json="hello", trust_env=False)
    assert said.json() == "hello"


@pytest.mark.restate
def test_it_stops_although_a_call_does_not_end(restate_node: RestateNode) -> None:
    """A handler that hangs is cut off after a moment, and Restate has the call still."""
    admin = Admin(restate_node.admins)
    joined = endpoint.join(LOCAL, [echo])
    admin.register(joined.uri)
    sent = httpx2.post(f"{restate_node.ingress}/EndpointEcho/k/hang/send", trust_env=False).json()["invocationId"]
    assert began.wait(30)
    endpoint.leave(joined)
    try:
        (row,) = admin.query(f"SELECT status FROM sys_invocation WHERE id = '{sent}'")
        assert (joined.is_serving, row["status"] != "completed") == (False, True)
    finally:
        httpx2.patch(f"{restate_node.admin}/invocations/{sent}/kill", trust_env=False)
        admin.close()


@pytest.mark.restate
def test_restate_finds_no_endpoint(restate_node: RestateNode) -> None:
    """Registering what Restate cannot call says why and what to do, in one line."""
    admin = Admin(restate_node.admins)
    with pytest.raises(EngineError, match=r"cannot be called by Restate \(connection refused\).*endpoint=") as refusal:
        admin.register("http://127.0.0.1:9")
    admin.close()
    assert "\n" not in str(refusal.value)


@pytest.mark.restate
def test_a_key_that_is_not_restates_is_told(restate_node: RestateNode) -> None:
    """Restate signs with another key or none: the error says that our key is wrong."""
    joined = endpoint.join(Address.parse("restate:http://127.0.0.1", {"OSP_RESTATE_IDENTITY_KEYS": KEY}), [echo])
    admin = Admin(restate_node.admins)
    try:
        with pytest.raises(EngineError, match="not signed with a key of OSP_RESTATE_IDENTITY_KEYS"):
            admin.register(joined.uri)
    finally:
        admin.close()
        endpoint.leave(joined)


@pytest.mark.restate
def test_a_restate_that_signs_is_believed(tmp_path: Path) -> None:
    """With the key that a server prints at start its requests are answered, and nobody else's."""
    seed = base64.b64encode(bytes.fromhex("302e020100300506032b657004220420") + bytes(range(32))).decode()
    pem = tmp_path / "key.pem"
    pem.write_text(f"-----BEGIN PRIVATE KEY-----\n{seed}\n-----END PRIVATE KEY-----\n", encoding="ascii")
    with RestateNode(tmp_path, settings={"RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE": str(pem)}) as node:
        key = re.search(r"publickeyv1_\w+", node.log.read_text(encoding="utf-8"))
        assert key is not None
        joined = endpoint.join(Address.parse(node.url(), {"OSP_RESTATE_IDENTITY_KEYS": key[0]}), [echo])
        admin = Admin(node.admins)
        try:
            admin.register(joined.uri)
            said = httpx2.post(f"{node.ingress}/EndpointEcho/k/say", json="hello", trust_env=False).json()
            assert (said, answers(joined.uri, "/discover")) == ("hello", 401)
        finally:
            admin.close()
            endpoint.leave(joined)


def test_it_answers_while_the_loop_of_this_thread_is_blocked(served: endpoint.Endpoint) -> None:
    """A step that blocks the event loop blocks no ledger."""

    async def main() -> list[int | None]:
        seen: list[int | None] = []
        asking = threading.Thread(target=lambda: seen.append(answers(served.uri)))
        asking.start()
        while asking.is_alive():
            time.sleep(0.001)  # noqa: ASYNC251 - blocks the loop, as users do
        return seen

    assert asyncio.run(main()) == [200]
