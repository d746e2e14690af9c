"""Restate's admin API: telling Restate where the ledger is served, and freeing what hangs on an endpoint that is gone.

Restate calls the endpoint that was registered last, and goes on calling the same one for an invocation that had begun
there. An exclusive invocation that is stuck so blocks its whole object. What frees it: the record of the endpoint that
is gone gets the address of a living one, and the invocation is told to try again now. It is never killed or
cancelled: its journal says how far it came, and it goes on from there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from osprotocol._clock import monotonic_s
from osprotocol._restate.ledger import ARCHIVE, LEDGER, SNAPSHOT, WORKERS
from osprotocol.errors import EngineError

OURS: Final = frozenset((LEDGER, ARCHIVE, WORKERS, SNAPSHOT))
_LIST: Final = ", ".join(f"'{name}'" for name in sorted(OURS))
_STUCK: Final = (
    "SELECT id, status, pinned_deployment_id AS pinned, last_attempt_deployment_id AS tried FROM sys_invocation "  # noqa: S608
    f"WHERE target_service_name IN ({_LIST}) AND status IN ('backing-off', 'paused') ORDER BY created_at LIMIT 5000"
)
_IN_USE: Final = (
    "SELECT DISTINCT pinned_deployment_id AS pinned, last_attempt_deployment_id AS tried FROM sys_invocation "
    "WHERE status != 'completed'"
)
_CONNECT_S: Final = 2.0
_ANSWER_S: Final = 10.0
_HEALTH_S: Final = 1.0
_DEAD_S: Final = 60.0
"""How long an endpoint must have been of no use before its record is removed."""
_AT_ONCE: Final = 8
# The invocation ended, runs, or waits its turn: nothing to free.
_NOT_STUCK: Final = (404, 409, 410, 425)


@dataclass(frozen=True, slots=True)
class Deployment:
    """An endpoint as Restate knows it.

    Attributes:
        id: Restate's name for it.
        uri: where it is called.
        services: the names of what it serves, or served before another one did.
    """

    id: str
    uri: str
    services: frozenset[str]


class Admin:
    """The admin API of a cluster, with failover over its nodes; to be called from threads.

    Args:
        addresses: ``http://host:port`` of the nodes.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = tuple(addresses)
        timeout = httpx2.Timeout(_ANSWER_S, connect=_CONNECT_S)
        # A proxy is no way to machines of one's own.
        self._http = httpx2.Client(timeout=timeout, trust_env=False)
        self._preferred = 0
        self._useless_since: dict[str, float] = {}
        self._sweeping = threading.Lock()

    def close(self) -> None:
        """Let go of all connections."""
        self._http.close()

    # ---------------------------------------------------------------- questions

    def version(self) -> str:
        """The server's version, such as ``1.7.12``.

        Raises:
            EngineError: nobody answers, or it is no Restate server.
        """
        answer = self._json("GET", "/version")
        if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
            raise EngineError(self.addresses[self._preferred], "is no admin API of Restate; see the option admin")
        return str(answer["version"])

    def deployments(self) -> list[Deployment]:
        """All endpoints that are registered."""
        found = self._json("GET", "/deployments")["deployments"]
        return [
            Deployment(one["id"], one["uri"].rstrip("/"), frozenset(service["name"] for service in one["services"]))
            for one in found
            if "uri" in one  # else a function of some cloud
        ]

    def service(self, name: str) -> Mapping[str, Any] | None:
        """A service's settings, as Restate shows them; None if no endpoint has it."""
        response = self._call("GET", f"/services/{name}")
        return None if response.status_code == 404 else dict(self._read(response))

    def newest(self) -> Deployment | None:
        """The endpoint that Restate calls for the ledger."""
        ledger = self.service(LEDGER)
        wanted = None if ledger is None else ledger["deployment_id"]
        return next((one for one in self.deployments() if one.id == wanted), None)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of Restate's own tables; what is null is left out of a row.

        Raises:
            EngineError: nobody answers, or a part of the cluster is missing at the moment.
        """
        try:
            return list(self._json("POST", "/query", {"query": sql})["rows"])
        except EngineError as error:
            raise EngineError(error.where, f"Restate's tables cannot be read now ({error.detail})") from None

    # ------------------------------------------------------------------ changes

    def register(self, uri: str) -> str:
        """Make an endpoint the one that Restate calls from now on, known before or not; gives its id.

        Raises:
            EngineError: Restate cannot reach it, or nobody answers us.
        """
        response = self._call("POST", "/deployments", {"uri": uri, "force": True, "use_http_11": True})
        if response.status_code == 500 and "META0003" in response.text:
            raise EngineError(uri, _unreachable(response.text))
        return str(self._read(response)["id"])

    def take_over(self, uri: str) -> int:
        """Serve what an endpoint that is gone served, and free what hangs on it; gives how many invocations.

        If the endpoint that Restate calls answers and nothing fails there, it stays the one. May be called by
        everybody at any time. Survives a crash: every part of it stands alone, and the next call goes on.

        Args:
            uri: our endpoint.

        Raises:
            EngineError: Restate does not answer, or cannot reach our endpoint.
        """
        newest, known = self.newest(), self.deployments()
        theirs = [one for one in known if one.services and one.services <= OURS and one.uri != uri]
        silent = self._silent({one.uri for one in theirs})
        self._inherit(uri, newest, [one for one in theirs if one.uri in silent])
        # While a node of Restate is missing this is refused for seconds; what is above is done already.
        stuck = self.query(_STUCK)
        failing = {row.get("pinned") or row.get("tried") for row in stuck}
        self._inherit(uri, newest, [one for one in theirs if one.uri not in silent and one.id in failing])
        ids = {one.id for one in known}
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return sum(threads.map(lambda row: self._free(row, ids), stuck))

    def _inherit(self, uri: str, newest: Deployment | None, lost: list[Deployment]) -> None:
        if newest is None or newest in lost:
            self.register(uri)
        for one in lost:
            self._call("PATCH", f"/deployments/{one.id}", {"uri": uri, "use_http_11": True})

    def step_down(self, uri: str) -> bool:
        """Before an endpoint of ours stops: let Restate call another one that lives; whether there is one."""
        newest = self.newest()
        others = {one.uri for one in self.deployments() if one.services and one.services <= OURS and one.uri != uri}
        living = others - self._silent(others)
        if newest is not None and newest.uri != uri:
            return newest.uri in living
        for other in sorted(living):
            self.register(other)
            return True
        return False

    def sweep(self) -> int:
        """Remove the records of our endpoints that have been of no use for a minute; gives how many.

        Of use is one that answers at an address of its own, that Restate calls, or that an invocation began on.
        """
        with self._sweeping:
            current = {row["deployment_id"] for row in self.query("SELECT deployment_id FROM sys_service")}
            used = {one for row in self.query(_IN_USE) for one in row.values()} | current
            known = self.deployments()
            ours = [one for one in known if one.id not in used and one.services <= OURS]
            taken = {one.uri for one in known if one.id in current}
            silent = self._silent({one.uri for one in ours} - taken)
            now, before = monotonic_s(), self._useless_since
            useless = [one.id for one in ours if one.uri in silent or one.uri in taken]
            self._useless_since = {one: before.get(one, now) for one in useless}
            old = [one for one, since in self._useless_since.items() if now - since >= _DEAD_S]
            for one in old:
                self._call("DELETE", f"/deployments/{one}?force=true")
            return len(old)

    def _free(self, row: Mapping[str, Any], known: set[str]) -> bool:
        path = f"/invocations/{row['id']}"
        if row.get("pinned") is None or row["pinned"] in known:
            return self._done("PATCH", f"{path}/resume")
        # Somebody removed the record that it is bound to. Only one that rests can be bound to another.
        if row["status"] != "paused":
            self._done("PATCH", f"{path}/pause")
        return self._done("PATCH", f"{path}/resume?deployment=latest")

    def _done(self, method: str, path: str) -> bool:
        response = self._call(method, path)
        if response.status_code in _NOT_STUCK:
            return False
        self._read(response)
        return True

    # ---------------------------------------------------------------- transport

    def _silent(self, uris: Iterable[str]) -> set[str]:
        """Those of some endpoints that do not say that they are well."""
        wanted = sorted(uris)
        if not wanted:
            return set()
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return {uri for uri, is_well in zip(wanted, threads.map(self._is_well, wanted), strict=True) if not is_well}

    def _is_well(self, uri: str) -> bool:
        try:
            response = self._http.get(f"{uri}/health", timeout=_HEALTH_S)
        except httpx2.TransportError:
            return False
        return response.is_success and "x-restate-server" in response.headers

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._read(self._call(method, path, body))

    def _read(self, response: httpx2.Response) -> Any:
        where = self.addresses[self._preferred]
        try:
            answer = response.json() if response.content else None
        except ValueError:
            raise EngineError(where, "is no admin API of Restate; see the option admin") from None
        if not response.is_success:
            told = answer.get("message") if isinstance(answer, dict) else None
            raise EngineError(where, str(told or f"answered {response.status_code}"))
        return answer

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx2.Response:
        """Ask one node after another; everything asked may be asked twice."""
        first, trouble = self._preferred, ""
        for turn in range(len(self.addresses)):
            place = (first + turn) % len(self.addresses)
            try:
                response = self._http.request(
                    method, self.addresses[place] + path, json=body, headers={"accept": "application/json"}
                )
            except httpx2.TransportError as error:
                trouble = trouble or str(error) or type(error).__name__
                continue
            if response.status_code in (502, 503, 504) and turn < len(self.addresses) - 1:
                continue
            self._preferred = place
            return response
        raise EngineError(
            ", ".join(self.addresses),
            f"Restate's admin API cannot be reached ({trouble.splitlines()[0]}); see the option admin",
        )


def _unreachable(told: str) -> str:
    if "401" in told:
        return "refuses Restate's requests: they are not signed with a key of OSP_RESTATE_IDENTITY_KEYS"
    why = "connection refused" if "refused" in told.lower() else "no endpoint of ours answers there"
    return f"cannot be called by Restate ({why}); give the way from Restate to this machine: endpoint=http://HOST:PORT"
