"""The servers that other tests stand on: they start, survive, fail over, and end with those who started them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.restate.nodes import CHECKOUT, PATIENCE_S, RestateCluster, RestateNode, call, get, wait_until

pytestmark = pytest.mark.restate

# Starts a node, tells its admin URL, and waits to be killed.
STARTS_A_NODE = """
import sys
from pathlib import Path
from tests.restate.nodes import RestateNode
with RestateNode(Path(sys.argv[1])) as node:
    print(node.admin, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RestateNode]:
    """A node that the test may kill."""
    with RestateNode(tmp_path) as started:
        yield started


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RestateCluster]:
    """Three nodes that the test may kill."""
    with RestateCluster(tmp_path) as started:
        yield started


def test_a_node_takes_runs(restate_node: RestateNode) -> None:
    """A node that has started answers on its admin port and on its ingress."""
    assert restate_node.is_ready()


def test_the_pinned_version_runs(restate_node: RestateNode) -> None:
    """The server that answers is of the version that `.ci/restate` pins."""
    version = call(restate_node.admin, "GET", "/version")
    assert version is not None
    pins = json.loads((CHECKOUT / ".ci" / "restate" / "package.json").read_text(encoding="utf-8"))
    assert json.loads(version)["version"] == pins["dependencies"]["@restatedev/restate-server"]


def test_a_killed_node_comes_back(node: RestateNode) -> None:
    """After kill -9 a node starts again as another process, on the same ports and with the same data."""
    pid, ingress, admin = node.pid, node.ingress, node.admin
    identity = call(admin, "GET", "/cluster-health")

    node.kill()
    assert not get(admin, "/health")
    node.restart()

    assert node.pid not in (None, pid)
    assert get(admin, "/health")
    assert get(ingress, "/restate/health")
    assert call(admin, "GET", "/cluster-health") == identity


def test_a_node_ends_in_order(node: RestateNode) -> None:
    """A node that is asked to end does so, and starts again."""
    node.terminate()
    assert not node.is_running
    node.restart()
    assert node.is_ready()


def test_a_stopped_node_hangs_and_goes_on(node: RestateNode) -> None:
    """A stopped node answers nobody, and does again when it may go on."""
    node.stop()
    assert not get(node.admin, "/health")
    assert node.is_running
    node.cont()
    node.wait_until_ready()


def test_a_cluster_goes_on_without_a_killed_node(cluster: RestateCluster) -> None:
    """When one of three nodes is killed the others take over its part, and take it back as a member."""
    killed, *others = cluster.nodes

    killed.kill()
    cluster.wait_until_ready()
    assert cluster.awake == tuple(others)
    assert all(node.is_healthy() for node in others)

    killed.start()
    cluster.wait_until_ready()
    assert cluster.awake == cluster.nodes


def test_a_cluster_goes_on_without_a_stopped_node(cluster: RestateCluster) -> None:
    """When one of three nodes hangs the others take over its part, and go on when it does."""
    stopped, *others = cluster.nodes

    stopped.stop()
    cluster.wait_until_ready()
    assert all(node.is_healthy() for node in others)

    stopped.cont()
    cluster.wait_until_ready()
    assert cluster.awake == cluster.nodes


def test_no_server_outlives_a_killed_test_run(tmp_path: Path) -> None:
    """When the process that started a node is killed, the node ends as well."""
    command = [sys.executable, "-c", STARTS_A_NODE, str(tmp_path)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        admin = run.stdout.readline().strip()
        assert get(admin, "/health")
        run.kill()

    wait_until(lambda: not get(admin, "/health"), PATIENCE_S, lambda: f"a server still answers at {admin}")
    shutil.rmtree(tmp_path)  # nobody was left to do it
