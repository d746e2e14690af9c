"""What must be true before a process joins a ledger: one clear line for each thing that is wrong."""

from __future__ import annotations

import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

import httpx2

from osprotocol._restate.address import Address
from osprotocol._restate.admin import Admin
from osprotocol._restate.endpoint import own_host
from osprotocol._restate.ledger import LEDGER
from osprotocol.errors import EngineError

_LEAST: Final = (1, 6)
_ANSWER_S: Final = 3.0
_METRIC: Final = re.compile(
    r'^restate_rocksdb_(wal_synced|write_wal)_total\{[^}]*db="(?:log-server|local-loglet)"[^}]*\} (\d+)', re.MULTILINE
)
_SYNC_OFF: Final = (
    "does not sync its log to disk, so a power cut loses what was acknowledged; remove the settings "
    "log-server.rocksdb-disable-wal-fsync and bifrost.local.rocksdb-disable-wal-fsync"
)
_ADMIN_OPEN: Final = (
    "Restate's admin API answers there, and it knows no password; bind it to a private address: "
    "RESTATE_ADMIN__BIND_ADDRESS=127.0.0.1:9070"
)
# Addresses of documentation: never reached, the way to them is that to everybody.
_ANYWHERE: Final = "http://192.0.2.1:9"


def check(address: Address, for_worker: bool) -> list[str]:
    """Look at everything that can be seen from here; gives what is no obstacle but should be mended.

    Args:
        address: where Restate is.
        for_worker: whether this process will serve the ledger, and so needs the admin API.

    Raises:
        EngineError: what makes it impossible.
    """
    with httpx2.Client(timeout=_ANSWER_S, trust_env=False) as http, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda url: _get(http, f"{url}/restate/health"), address.ingress))
        metrics = threads.map(lambda url: _get(http, f"{url}/metrics"), address.nodes)
        warnings = _check_ingress(address, answers, for_worker)
        warnings += _check_admin(address, http, for_worker)
        warnings += [
            f"{url}: this node {_SYNC_OFF}"
            for url, answer in zip(address.nodes, metrics, strict=True)
            if isinstance(answer, httpx2.Response) and _syncs_not(answer.text)
        ]
        return warnings


def _get(http: httpx2.Client, url: str) -> httpx2.Response | str:
    """The answer, or why there is none."""
    try:
        return http.get(url)
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        return (str(error) or type(error).__name__).splitlines()[0]


def _check_ingress(address: Address, answers: list[httpx2.Response | str], for_worker: bool) -> list[str]:
    silent = {url: answer for url, answer in zip(address.ingress, answers, strict=True) if isinstance(answer, str)}
    if len(silent) == len(address.ingress):
        where, why = next(iter(silent.items()))
        raise EngineError(where, f"Restate's ingress cannot be reached ({why}); is restate-server running there?")
    served: set[str] = set()
    for url, answer in zip(address.ingress, answers, strict=True):
        if not isinstance(answer, str):
            try:
                served.update(answer.json()["services"])
            except (ValueError, KeyError, TypeError):
                raise EngineError(url, "is no ingress of Restate; write its port for calls, by default 8080") from None
    if LEDGER not in served and not for_worker:
        url = f"restate:{','.join(address.ingress)}/{address.namespace}"
        raise EngineError(url, f"no worker serves the ledger; start one with: osp worker --url {url} TARGET")
    return [f"{url}: this node of Restate does not answer ({why})" for url, why in silent.items()]


def _check_admin(address: Address, http: httpx2.Client, for_worker: bool) -> list[str]:
    admin = Admin(address.admin)
    try:
        version = admin.version()
    except EngineError:
        if for_worker:
            raise
        return []  # right so: who only starts and watches runs has no need of it
    finally:
        admin.close()
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < _LEAST:
        least = ".".join(map(str, _LEAST))
        raise EngineError(address.admin[0], f"runs Restate {version}; {least} is the oldest that does")
    return [f"{url}: {_ADMIN_OPEN}" for url in _open_admins(address, http)]


def _open_admins(address: Address, http: httpx2.Client) -> list[str]:
    """Where the admin API answers to the world, or to our network although loopback is enough."""
    found = []
    for url in address.admin:
        parts = urlsplit(url)
        try:
            host = ipaddress.ip_address(socket.getaddrinfo(parts.hostname, parts.port)[0][4][0])
            if host.is_loopback:
                outward = own_host(_ANYWHERE)
                url = f"{parts.scheme}://{outward}:{parts.port}"
                is_open = not ipaddress.ip_address(outward).is_loopback
            else:
                is_open = host.is_global
        except (OSError, EngineError):
            continue
        answer = _get(http, f"{url}/version") if is_open else ""
        if isinstance(answer, httpx2.Response) and answer.is_success:
            found.append(url)
    return found


def _syncs_not(metrics: str) -> bool:
    """Whether a log is written and not synced; a sync may serve many writes, and there is one at start in any case."""
    counts = {"wal_synced": 0, "write_wal": 0}
    for name, count in _METRIC.findall(metrics):
        counts[name] += int(count)
    synced, written = counts["wal_synced"], counts["write_wal"]
    return written >= 10 and (synced < 3 or synced * 1_000 < written)
