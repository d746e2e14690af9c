"""Restate servers for tests: one node, or a cluster of three, as processes that can be killed and started again.

Each server has a process group of its own and a guard, a shell that waits for the end of a pipe from this process. When
this process ends in whatever way, `kill -9` included, the guard kills the server. Linux could do that with
PR_SET_PDEATHSIG, but that follows the thread which started the server, and macOS does not have it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = CHECKOUT / ".restate" / "node_modules" / "@restatedev"

HOST = "127.0.0.1"
# Below the ports that systems hand out for outgoing connections: one of those could sit on a killed node's port.
PORTS = range(20_000, 32_000)
# How long a server may take to do what is asked of it, on a busy machine, before the test fails.
PATIENCE_S = 60.0
ANSWER_S = 2.0
POLL_S = 0.02

# How the server writes what it also takes as variables: `restate-server --dump-config`. Log sync stays on.
SETTINGS = {
    "RESTATE_DISABLE_TELEMETRY": "true",
    "RESTATE_ADMIN__DISABLE_WEB_UI": "true",
    "RESTATE_LOG_FORMAT": "compact",
    "RESTATE_LOG_DISABLE_ANSI_CODES": "true",
    "RESTATE_SHUTDOWN_TIMEOUT": "10s",
    # Small: the least that serves a few thousand runs.
    "RESTATE_DEFAULT_NUM_PARTITIONS": "4",
    "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "256MiB",
    "RESTATE_BIFROST__RECORD_CACHE_MEMORY_SIZE": "32MiB",
}
CLUSTER_SETTINGS = {
    "RESTATE_DEFAULT_REPLICATION": "2",
    "RESTATE_METADATA_CLIENT__TYPE": "replicated",
    "RESTATE_BIFROST__DEFAULT_PROVIDER": "replicated",
    # A node is dead after ten missed ticks of 100 ms, as by default. One that is back counts for nothing for 5 s by
    # default, and one that hangs (SIGSTOP) is asked for metadata for up to 10 s, again and again.
    "RESTATE_GOSSIP_SUSPECT_INTERVAL": "1s",
    "RESTATE_METADATA_CLIENT__CONNECT_TIMEOUT": "1s",
    "RESTATE_METADATA_CLIENT__KEEP_ALIVE_INTERVAL": "500ms",
    "RESTATE_METADATA_CLIENT__KEEP_ALIVE_TIMEOUT": "1500ms",
    "RESTATE_NETWORKING__CONNECT_TIMEOUT": "1s",
    "RESTATE_NETWORKING__HANDSHAKE_TIMEOUT": "1s",
    "RESTATE_NETWORKING__HTTP2_KEEP_ALIVE_INTERVAL": "500ms",
    "RESTATE_NETWORKING__HTTP2_KEEP_ALIVE_TIMEOUT": "1500ms",
    "RESTATE_NETWORKING__CONNECT_RETRY_POLICY__MAX_INTERVAL": "500ms",
    "RESTATE_BIFROST__SEAL_RETRY_INTERVAL": "500ms",
    "RESTATE_BIFROST__AUTO_RECOVERY_INTERVAL": "2s",
}
# Variables of this process that a server gets. Not HTTP_PROXY, through which it would call endpoints.
INHERITED = ("PATH", "HOME", "TMPDIR")
_GUARD = 'read -r _; kill -KILL "-$1"'
# Answered only when every partition has a leader.
COUNTS_ALL_PARTITIONS = "SELECT count(*) FROM sys_invocation_status"


def guard_of(group: int) -> subprocess.Popen[bytes]:
    """A shell that kills a process group once this process has ended, in whatever way."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "guard", str(group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


class ServerMissing(Exception):
    """The Restate server is not installed in this checkout."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"no Restate server at {self.path}: `make test-restate` installs it"


def server_binary() -> Path:
    """The pinned server itself; npm's command is a Node.js script, which would take the signals in its place."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    path = PACKAGES / f"restate-server-{sys.platform}-{machine}" / "bin" / "restate-server"
    if not path.is_file():
        raise ServerMissing(path)
    return path


class Port:
    """A TCP port of loopback that is free, and that no other test process takes as long as it is held.

    What holds it is a UDP socket of the same number: it keeps others who look for a port away, and not the server.
    """

    def __init__(self) -> None:
        for _ in range(1_000):
            # Not `random`: pytest sets its seed, so every process would try the same ports.
            self.number = secrets.choice(PORTS)
            self._claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._claim.bind((HOST, self.number))
                with socket.socket() as probe:
                    probe.bind((HOST, self.number))
            except OSError:
                self._claim.close()
            else:
                return
        raise RuntimeError(f"no free port from {PORTS.start} to {PORTS.stop - 1}")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.number}"

    def release(self) -> None:
        """Let others have it."""
        self._claim.close()


class _Server(ABC):
    """Something that runs inside a ``with`` block, ready at its beginning."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def wait_until_ready(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RestateNode(_Server):
    """One server on ports and data of its own, which it keeps over restarts.

    All methods block. Threads may share a node when they do not call it at the same time.

    Args:
        folder: where its data and its log are; made if missing.
        name: what the cluster calls it.
        settings: more settings, by the names of the server's environment variables.

    Attributes:
        ingress: the URL where runs are started.
        admin: the URL of the admin API.
        fabric: the URL where nodes talk to each other, and of the metrics.
        log: the file with what the server printed, of all its lives.
        settings: what the next start takes.
    """

    def __init__(self, folder: Path, *, name: str = "n1", settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.name = name
        self.log = folder / f"{name}.log"
        self.settings = dict(settings or {})
        self._ports = ingress, admin, fabric = Port(), Port(), Port()
        self.ingress, self.admin, self.fabric = ingress.url, admin.url, fabric.url
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<{self.name} ingress={self.ingress} admin={self.admin}>"

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it does not run."""
        return self._process.pid if self.is_running and self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the process exists, stopped or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_awake(self) -> bool:
        """Whether the process exists and is not stopped."""
        return self.is_running and not self._is_stopped

    @property
    def ingresses(self) -> tuple[str, ...]:
        """The same for a node and for a cluster: where runs can be started."""
        return (self.ingress,)

    @property
    def admins(self) -> tuple[str, ...]:
        """The same for a node and for a cluster: where the admin API is."""
        return (self.admin,)

    def url(self, namespace: str = "main") -> str:
        """What `connect` takes."""
        return url_of([self], namespace)

    def start(self) -> None:
        """Start the process and do not wait for it; nothing happens when it runs."""
        if self.is_running:
            return
        self._end()
        self.folder.mkdir(parents=True, exist_ok=True)
        ingress, admin, fabric = (f"{HOST}:{port.number}" for port in self._ports)
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= SETTINGS | self.settings
        environment |= {
            "RESTATE_NODE_NAME": self.name,
            "RESTATE_BASE_DIR": str(self.folder),
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_BIND_ADDRESS": fabric,
            "RESTATE_ADVERTISED_ADDRESS": self.fabric,
            "RESTATE_INGRESS__BIND_ADDRESS": ingress,
            "RESTATE_ADMIN__BIND_ADDRESS": admin,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [server_binary(), "--no-logo"],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._is_stopped = False
        self._guard = guard_of(self._process.pid)

    def wait_until_ready(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until the node takes runs, and fail with the end of its log when it does not."""

        def is_ready() -> bool:
            if not self.is_running:
                raise AssertionError(f"{self.name} ended while it started:\n{self.log_end()}")
            return self.is_ready()

        wait_until(is_ready, patience_s, lambda: f"{self.name} takes no runs:\n{self.log_end()}")

    def is_healthy(self) -> bool:
        """Whether admin and ingress answer and say that they are well."""
        return self.is_awake and get(self.admin, "/health") and get(self.ingress, "/restate/health")

    def is_ready(self) -> bool:
        """Whether it is healthy and reaches a leader of every partition."""
        return self.is_healthy() and query(self.admin, COUNTS_ALL_PARTITIONS) is not None

    def kill(self) -> None:
        """SIGKILL: the process is gone when this returns, its data stay as they are."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._end()

    def terminate(self, patience_s: float = PATIENCE_S) -> None:
        """SIGTERM, an orderly end; SIGKILL when that takes too long, or when the process is stopped."""
        if self._process is not None and self.is_awake:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        self.kill()

    def stop(self) -> None:
        """SIGSTOP: it hangs as it is, its ports take connections and nobody answers."""
        if self.is_awake and self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitpid(self._process.pid, os.WUNTRACED)  # its other threads run on for a moment
            self._is_stopped = True

    def cont(self) -> None:
        """SIGCONT: it goes on, not knowing that time has passed."""
        if self.is_running and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._is_stopped = False

    def restart(self) -> None:
        """Kill it when it runs, start it on the same ports and data, and wait until it is ready."""
        self.kill()
        self.start()
        self.wait_until_ready()

    def close(self) -> None:
        """Kill it, give its ports away and delete its data, which take 150 MB from the start; the log stays."""
        self.kill()
        shutil.rmtree(self.folder / self.name, ignore_errors=True)
        for port in self._ports:
            port.release()

    def log_end(self, lines: int = 30) -> str:
        """The last lines of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _end(self) -> None:
        """Clear away a process that has ended. First the guard: the server's id may be given to others afterwards."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        if self._process is not None:
            self._process.wait()
        self._guard = self._process = None
        self._is_stopped = False


class RestateCluster(_Server):
    """Nodes that keep everything twice: with three of them, one may be missing.

    All of a node's roles are on each. The first node founds the cluster and the others join it.

    Args:
        folder: where the nodes' data and logs are; made if missing.
        size: how many nodes.
        settings: more settings for each node, by the names of the server's environment variables.

    Attributes:
        nodes: the nodes, running or not.
    """

    def __init__(self, folder: Path, *, size: int = 3, settings: Mapping[str, str] | None = None) -> None:
        shared = CLUSTER_SETTINGS | {"RESTATE_CLUSTER_NAME": f"test-{secrets.token_hex(4)}"} | dict(settings or {})
        self.nodes = tuple(
            # Were all of them allowed to found a cluster, there could be three.
            RestateNode(folder, name=f"n{n}", settings=shared | {"RESTATE_AUTO_PROVISION": str(n == 1).lower()})
            for n in range(1, size + 1)
        )
        addresses = json.dumps([node.fabric for node in self.nodes])
        for node in self.nodes:
            node.settings["RESTATE_METADATA_CLIENT__ADDRESSES"] = addresses

    @property
    def ingresses(self) -> tuple[str, ...]:
        """Where runs can be started, one URL a node."""
        return tuple(node.ingress for node in self.nodes)

    @property
    def admins(self) -> tuple[str, ...]:
        """Where the admin API is, one URL a node."""
        return tuple(node.admin for node in self.nodes)

    @property
    def awake(self) -> tuple[RestateNode, ...]:
        """The nodes that run and are not stopped."""
        return tuple(node for node in self.nodes if node.is_awake)

    def url(self, namespace: str = "main") -> str:
        """What `connect` takes."""
        return url_of(self.nodes, namespace)

    def start(self) -> None:
        """Start the nodes that do not run, and do not wait for them."""
        for node in self.nodes:
            node.start()

    def is_ready(self) -> bool:
        """Whether every node that is awake is ready; when all are, also whether each knows all as members."""
        awake = self.awake
        # A node that asks one which hangs whether it is a member waits for seconds.
        are_members = len(awake) < len(self.nodes) or all(self._knows_everybody(node) for node in awake)
        return bool(awake) and are_members and all(node.is_ready() for node in awake)

    def wait_until_ready(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until the nodes that are awake take runs, and fail with the ends of their logs when they do not.

        For some seconds after a node went or came the cluster still moves leaders, so that a call may fail once more.
        """

        def logs() -> str:
            return "\n".join(f"{node!r} awake={node.is_awake}\n{node.log_end(15)}" for node in self.nodes)

        wait_until(self.is_ready, patience_s, lambda: f"the cluster takes no runs:\n{logs()}")

    def close(self) -> None:
        """Kill every node, give the ports away and delete the data; the logs stay."""
        for node in self.nodes:
            node.close()

    def _knows_everybody(self, node: RestateNode) -> bool:
        answer = call(node.admin, "GET", "/cluster-health")
        if answer is None:
            return False
        metadata = json.loads(answer)["metadata_cluster_health"]
        return metadata is not None and len(metadata["members"]) == len(self.nodes)


def url_of(nodes: Sequence[RestateNode], namespace: str) -> str:
    """The URL for `connect` that names these nodes."""
    ingresses = ",".join(node.ingress for node in nodes)
    admins = ",".join(node.admin for node in nodes)
    return f"restate:{ingresses}/{namespace}?admin={admins}"


def wait_until(holds: Callable[[], bool], patience_s: float, complaint: Callable[[], str]) -> None:
    """Ask again and again; when patience is over, fail with the complaint."""
    end = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"after {patience_s:g} s {complaint()}")
        time.sleep(POLL_S)


def call(url: str, method: str, path: str, body: object = None) -> bytes | None:
    """The body of a 200 answer; None for any other, and when nobody answers in time."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=ANSWER_S)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return content if answer.status == 200 else None


def get(url: str, path: str) -> bool:
    """Whether a GET is answered with 200."""
    return call(url, "GET", path) is not None


def query(admin: str, sql: str) -> list[dict[str, object]] | None:
    """The rows that the admin API's SQL gives; None when it cannot answer now."""
    answer = call(admin, "POST", "/query", {"query": sql})
    rows: list[dict[str, object]] | None = None if answer is None else json.loads(answer)["rows"]
    return rows
