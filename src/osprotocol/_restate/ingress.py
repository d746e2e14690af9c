"""Calls to the ledger through Restate's ingress, from any thread, with failover over the nodes.

Everything asked here may be asked twice: an append by its token, the others by their nature. So whatever gets no
answer is asked again, of the next node, until its time is up.
"""

from __future__ import annotations

import http.client
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final
from urllib.parse import quote, urlsplit

from osprotocol._clock import monotonic_s
from osprotocol._ids import Ids
from osprotocol._restate import ledger
from osprotocol._restate.frames import Header, frame, unframe
from osprotocol._restate.ledger import ARCHIVE, LEDGER, PROTOCOL, SNAPSHOT, WORKERS, expect
from osprotocol.errors import LedgerUnreachableError

_CONNECT_S: Final = 3.0
ASKED_AGAIN_S: Final = 0.2
_ON_ITS_WAY_S: Final = 0.02
ANSWER_S: Final = 5.0
"""How long one node may take for one answer before another is asked."""
PATIENCE_S: Final = 30.0
"""How long a call is repeated before it is given up: longer than a cluster needs to replace a dead node."""


def here() -> str:
    """This process, as it is told to the ledger."""
    return ledger.PROCESS


_Sent = tuple[int, http.client.HTTPConnection]
"""To which node a request was sent, and where its answer comes."""


class Ingress:
    """The ledger of one namespace, and what belongs to it.

    Args:
        addresses: ``http://host:port`` of the nodes.
        namespace: which ledger.
    """

    def __init__(self, addresses: tuple[str, ...], namespace: str) -> None:
        self.addresses = addresses
        self.namespace = namespace
        self.patience_s = PATIENCE_S
        self._member = Ids().secret()
        self._key = quote(namespace, safe="")
        self._preferred = 0
        self._idle: list[tuple[int, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="osprotocol-ledger")
        self._closed = threading.Event()

    # -------------------------------------------------------------------- calls

    def append(
        self, base: int, chain: str, token: str, schema: int, change: bytes, *, is_news: bool = True
    ) -> tuple[Header, list[bytes]]:
        """Append a change that stands on an entry; the reply, as soon as it is certain. Others hear of news at once.

        Raises:
            LedgerUnreachableError: nobody answered; the change may still be appended.
        """
        place = {"base": base, "chain": chain, "token": token, "schema": schema}
        asked = {"protocol": PROTOCOL, **place, "member": self._member, "is_news": is_news}
        decided: Future[bytes] = Future()
        body = frame(asked, change)

        def decide(reply: bytes | BaseException) -> None:
            with self._lock:
                if decided.done():
                    return
                if isinstance(reply, BaseException):
                    decided.set_exception(reply)
                else:
                    decided.set_result(reply)

        def receive(sent: _Sent | None) -> None:
            try:
                decide(self._call(LEDGER, self._key, "append", body, sent=sent))
            except BaseException as error:  # noqa: BLE001 - goes to the thread that waits
                decide(error)

        cancel = expect(token, decide)
        try:
            # Sent from this thread, received by another: the reply may be known here before Restate gives it.
            self._threads.submit(receive, self._send_at_once(LEDGER, self._key, "append", body))
            reply, entries = unframe(decided.result())
        finally:
            cancel()
        return self.read(base, chain) if reply["status"] == "archived" else (reply, entries)

    def read(
        self, base: int, chain: str, wait_s: float = 0.0, patience_s: float | None = None
    ) -> tuple[Header, list[bytes]]:
        """What was appended after an entry; waits so long for something new."""
        asked = {"base": base, "chain": chain, "wait_ms": int(wait_s * 1_000)}
        asked |= {"process": here(), "member": self._member}
        until = monotonic_s() + PATIENCE_S
        while True:
            reply, entries = unframe(self._call(LEDGER, self._key, "read", frame(asked), ANSWER_S + wait_s, patience_s))
            if reply["status"] == "ahead":  # told before it was stored, or never there
                reply, entries = unframe(self._call(LEDGER, self._key, "read_in_turn", frame(asked)))
            if reply["status"] != "archived":
                return reply, entries
            told, entries = unframe(self._call(ARCHIVE, self._key, "read_old", frame(asked)))
            if entries or told["status"] != "behind" or monotonic_s() >= until:
                return {**reply, **told}, entries
            self._closed.wait(_ON_ITS_WAY_S)

    def compact(self, told: Header) -> str:
        """Tell of a snapshot, and forget entries that it holds; gives the name of the one that it replaces, if any.

        Args:
            told: ``snapshot`` (the last entry that it holds), its ``name``, ``count`` of parts, ``size`` in bytes, and
                ``until`` which entry may be forgotten.
        """
        return str(unframe(self._call(LEDGER, self._key, "compact", frame(told)))[0]["stale"])

    def beat(self, worker: str | None, gone: list[str], answer_s: float) -> dict[str, int]:
        """Count a sign of life of a worker, forget those that are gone; the counts of all. Asked once."""
        asked = {"worker": worker, "gone": gone}
        return dict(unframe(self._call(WORKERS, self._key, "beat", frame(asked), answer_s, patience_s=0))[0])

    def put_part(self, snapshot: str, number: int, part: bytes) -> None:
        """Store one part of a snapshot."""
        self._call(SNAPSHOT, self._snapshot(snapshot), "put", frame({"number": number}, part))

    def get_part(self, snapshot: str, number: int) -> bytes:
        """One part of a snapshot; empty if it is not there any more."""
        return self._call(SNAPSHOT, self._snapshot(snapshot), "get", frame({"number": number}))

    def drop_snapshot(self, snapshot: str) -> None:
        """Forget a snapshot."""
        self._call(SNAPSHOT, self._snapshot(snapshot), "drop", frame({}))  # it takes no empty body

    def _snapshot(self, snapshot: str) -> str:
        return quote(f"{self.namespace}/{snapshot}", safe="")

    # ---------------------------------------------------------------- transport

    def _call(
        self,
        service: str,
        key: str,
        handler: str,
        body: bytes,
        answer_s: float = ANSWER_S,
        patience_s: float | None = None,
        sent: _Sent | None = None,
    ) -> bytes:
        path = f"/{service}/{key}/{handler}"
        until = monotonic_s() + (self.patience_s if patience_s is None else patience_s)
        while True:
            place = self._preferred if sent is None else sent[0]
            try:
                return self._receive(*(sent or self._send(place, path, body, answer_s)))
            except (OSError, http.client.HTTPException) as error:
                if self._closed.is_set() or monotonic_s() >= until:
                    raise LedgerUnreachableError(self.addresses[place], _told(error)) from error
                if self._preferred == place:
                    self._preferred = (place + 1) % len(self.addresses)
            sent = None
            self._closed.wait(ASKED_AGAIN_S)

    def _send_at_once(self, service: str, key: str, handler: str, body: bytes) -> _Sent | None:
        try:
            return self._send(self._preferred, f"/{service}/{key}/{handler}", body, ANSWER_S)
        except (OSError, http.client.HTTPException):
            return None

    def _send(self, place: int, path: str, body: bytes, answer_s: float) -> _Sent:
        connection = self._connection(place)
        try:
            assert connection.sock is not None
            connection.sock.settimeout(answer_s)
            connection.request("POST", path, body, {"content-type": "application/octet-stream"})
        except BaseException:
            connection.close()
            raise
        return place, connection

    def _receive(self, place: int, connection: http.client.HTTPConnection) -> bytes:
        try:
            response = connection.getresponse()
            data = response.read()
        except BaseException:
            connection.close()
            raise
        if self._closed.is_set() or response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append((place, connection))
        if response.status != http.client.OK:
            raise http.client.HTTPException(f"{response.status} {data[:300].decode('utf-8', 'replace')}")
        return data

    def _connection(self, place: int) -> http.client.HTTPConnection:
        with self._lock:
            for number, (where, connection) in enumerate(self._idle):
                if where == place:
                    del self._idle[number]
                    return connection
        address = urlsplit(self.addresses[place])
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname or "", address.port, timeout=_CONNECT_S)
        connection.connect()
        return connection

    def close(self) -> None:
        """Let go of all connections; calls under way end soon."""
        self._closed.set()
        with self._lock:
            for _, connection in self._idle:
                connection.close()
            self._idle.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _told(error: BaseException) -> str:
    if isinstance(error, socket.timeout | TimeoutError):
        return "no answer in time; are a worker and enough nodes running?"
    if "remote endpoint" in str(error):
        return "no worker serves it; start one with: osp worker --url restate:... TARGET"
    return str(error) or type(error).__name__
