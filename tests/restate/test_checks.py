"""What is looked at before a process joins a ledger."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from osprotocol._restate.address import Address
from osprotocol._restate.checks import check
from osprotocol._restate.endpoint import own_host
from osprotocol._restate.ingress import Ingress
from osprotocol._restate.joining import Host
from osprotocol.errors import EngineError
from tests.restate.nodes import RestateNode

NOBODY = "http://127.0.0.1:9"
Fake = Callable[..., str]


class Pages(BaseHTTPRequestHandler):
    """Answers with fixed texts."""

    pages: dict[str, str]

    def do_GET(self) -> None:
        text = self.pages.get(self.path)
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def fake() -> Iterator[Fake]:
    """Starts a server that says what a Restate of another kind would say; gives its URL."""
    started: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(pages: dict[str, str], host: str = "127.0.0.1") -> str:
        server = ThreadingHTTPServer((host, 0), type("Said", (Pages,), {"pages": pages}))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        started.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def says(version: str = "1.7.12", services: tuple[str, ...] = ("OspLedger",), metrics: str = "") -> dict[str, str]:
    return {
        "/restate/health": json.dumps({"services": services}),
        "/version": json.dumps({"version": version}),
        "/metrics": metrics,
    }


def address(*ingress: str, admin: str = NOBODY, nodes: str = NOBODY) -> Address:
    return Address.parse(f"restate:{','.join(ingress)}/shop?admin={admin}&nodes={nodes}", {})


def told(where: Address, *, for_worker: bool = False) -> str:
    """The error; it has one line."""
    with pytest.raises(EngineError) as refusal:
        check(where, for_worker)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_no_ingress() -> None:
    """With nobody at the address the error says who is expected there."""
    assert "http://127.0.0.1:9: Restate's ingress cannot be reached" in told(address(NOBODY))


def test_one_node_of_several_is_away(fake: Fake) -> None:
    """The others do; it is told in a warning."""
    (warning,) = check(address(NOBODY, fake(says())), for_worker=False)
    assert warning.startswith("http://127.0.0.1:9: this node of Restate does not answer (")


def test_another_server_in_the_place_of_the_ingress(fake: Fake) -> None:
    """An answer that is none of Restate's ingress is told, with the port that it has."""
    assert "is no ingress of Restate" in told(address(fake({"/restate/health": "<html>"})))


def test_nobody_serves_the_ledger(fake: Fake) -> None:
    """Who is no worker is told how to start one."""
    ingress = fake(says(services=()))
    assert f"osp worker --url restate:{ingress}/shop TARGET" in told(address(ingress))


def test_a_worker_needs_no_worker(fake: Fake) -> None:
    """It is about to serve the ledger itself."""
    url = fake(says(services=()))
    assert check(address(url, admin=url), for_worker=True) == []


def test_a_client_needs_no_admin_api(fake: Fake) -> None:
    """It should not reach it."""
    assert check(address(fake(says())), for_worker=False) == []


def test_a_worker_needs_the_admin_api(fake: Fake) -> None:
    """The error names the option."""
    text = told(address(fake(says())), for_worker=True)
    assert "http://127.0.0.1:9: Restate's admin API cannot be reached" in text
    assert "option admin" in text


def test_another_server_in_the_place_of_the_admin_api(fake: Fake) -> None:
    """The ingress's own port is the usual mistake."""
    url = fake({"/restate/health": '{"services": []}', "/version": '{"name": "other"}'})
    assert "is no admin API of Restate" in told(address(url, admin=url), for_worker=True)


@pytest.mark.parametrize("version", ["0.9.2", "1.5.6"])
def test_a_server_that_is_too_old(fake: Fake, version: str) -> None:
    """Older servers lack what take-over needs."""
    url = fake(says(version))
    assert f"runs Restate {version}; 1.6 is the oldest" in told(address(url, admin=url), for_worker=True)


@pytest.mark.parametrize("version", ["1.6.0", "1.10.0-rc.1", "2.0.0"])
def test_servers_that_do(fake: Fake, version: str) -> None:
    """Versions are compared as numbers."""
    url = fake(says(version))
    assert check(address(url, admin=url), for_worker=True) == []


def test_an_admin_api_that_is_open(fake: Fake) -> None:
    """Loopback would do, and it answers at the machine's other address too."""
    outward = own_host("http://192.0.2.1:9")
    open_to_all = fake(says(), "0.0.0.0")
    (warning,) = check(address(open_to_all, admin=open_to_all), for_worker=True)
    port = open_to_all.rpartition(":")[2]
    assert warning.startswith(f"http://{outward}:{port}: Restate's admin API answers there")


@pytest.mark.restate
def test_a_server_as_the_tests_start_it(restate_node: RestateNode) -> None:
    """Nothing is wrong with it."""
    where = address(restate_node.ingress, admin=restate_node.admin, nodes=restate_node.fabric)
    assert check(where, for_worker=True) == []


@pytest.mark.restate
def test_the_admin_api_in_the_place_of_the_ingress(restate_node: RestateNode) -> None:
    """Both ports are Restate's, and one is taken for the other."""
    where = address(restate_node.admin, admin=restate_node.admin)
    assert "is no ingress of Restate" in told(where, for_worker=True)


def write_something(where: Address) -> None:
    """Enough writes to tell from their number whether they are synced."""
    host, ingress = Host(where), Ingress(where.ingress, "main")
    for _ in range(20):
        ingress.beat("worker", [], answer_s=10.0)
    ingress.close()
    host.leave()


@pytest.mark.restate
def test_log_sync_is_off(tmp_path: Path) -> None:
    """A node whose log counts writes and no syncs is told, with the settings that did it."""
    settings = {
        "RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC": "true",
        "RESTATE_BIFROST__LOCAL__ROCKSDB_DISABLE_WAL_FSYNC": "true",
    }
    with RestateNode(tmp_path, settings=settings) as node:
        where = address(node.ingress, admin=node.admin, nodes=node.fabric)
        write_something(where)
        (warning,) = check(where, for_worker=True)
        assert httpx2.get(f"{node.fabric}/metrics", trust_env=False).is_success
    assert warning.startswith(f"{node.fabric}: this node does not sync its log")
    assert "log-server.rocksdb-disable-wal-fsync" in warning
