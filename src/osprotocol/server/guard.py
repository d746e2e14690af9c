"""What every request passes before it reaches a route, and every answer before it leaves: one ASGI middleware.

It refuses what no page or program of ours sends: foreign Host and Origin headers, odd paths, bodies that are too large,
compressed or of the wrong kind. It adds the security headers and writes the access log, without query strings.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from osprotocol import _limits
from osprotocol._clock import monotonic_s
from osprotocol.errors import LimitExceededError, NotPermittedError, OSProtocolError
from osprotocol.server import csrf
from osprotocol.server.problems import answer_of, http_problem
from osprotocol.server.redaction import redact_text
from osprotocol.server.settings import ServerSettings

BODY_BYTES = _limits.PAYLOAD_BYTES + 65_536
"""A payload and what goes with it."""
SMALL_BYTES = 65_536
ARRIVING_BYTES = 64 * 1_048_576
"""Of all bodies that are on their way: whoever sends them is not known yet. Small ones are taken in any case."""
REQUEST_S = 30.0
HEADERS = 100
HEADER_BYTES = 32_768

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_](?:[a-z0-9_.-]{0,252}))(?::([0-9]{1,5}))?\Z")
_ODD_PATH = re.compile(rb"//|\\|%2f|%5c|%00|%2e|/\.\.?(?:/|\Z)|[\x00-\x20\x7f-\xff]", re.IGNORECASE)
_STREAM = "text/event-stream"

_access_log = logging.getLogger("osprotocol.access")


def install(app: FastAPI, settings: ServerSettings) -> None:
    """Put the guard in front of an application, and of its own handling of errors. Call it last."""
    app.middleware_stack = Guard(app.build_middleware_stack(), settings)


class Guard:
    """The middleware. It stands in front of everything else.

    Args:
        app: what it guards.
        settings: of the server; under which names it is known.
        request_s: how long a request may take, streams aside.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, request_s: float = REQUEST_S) -> None:
        self._app = app
        self._settings = settings
        self._request_s = request_s
        self._public = urlsplit(settings.public_url or "")
        self._fixed = _fixed_headers(secure=self._public.scheme == "https")
        self._arriving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            await self._guarded(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = monotonic_s()
        limit = asyncio.timeout(self._request_s)
        outgoing = _Outgoing(send, self._fixed, scope, limit)
        try:
            async with limit:
                refused = self._judge(scope)
                if refused is None:
                    body = await self._read_body(scope, receive)
                    refused = body if isinstance(body, Response) else _judge_body(scope, body)
                    if refused is None and isinstance(body, bytes):
                        await self._app(_as_get(scope), _Replayed(body, receive), outgoing)
                if refused is not None:
                    await refused(scope, receive, outgoing)
        except TimeoutError:
            if not limit.expired():
                raise
            if outgoing.status is None:
                answer = http_problem(503, f"this took longer than {self._request_s:g} s", {"Retry-After": "5"})
                await answer(scope, receive, outgoing)
        finally:
            _write_access_log(scope, outgoing.status, began)

    # ------------------------------------------------------------------ reading

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes | Response:
        """The whole body, which is small enough to be kept; or why it is refused."""
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or not declared.isascii():
            return http_problem(400, "Content-Length is not a number")
        if int(declared[:20]) > BODY_BYTES:
            return answer_of(LimitExceededError("body of the request", int(declared[:20]), "BODY_BYTES", BODY_BYTES))
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return http_problem(400, "the connection ended before the request did")
                part = message.get("body", b"")
                size += len(part)
                self._arriving += len(part)
                if size > BODY_BYTES:
                    return answer_of(LimitExceededError("body of the request", size, "BODY_BYTES", BODY_BYTES))
                if size > SMALL_BYTES and self._arriving > ARRIVING_BYTES:
                    return http_problem(503, "too many large requests at the same time", {"Retry-After": "1"})
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
        finally:
            self._arriving -= size

    # ------------------------------------------------------------------ judging

    def _judge(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        try:
            if len(scope["headers"]) > HEADERS or sum(len(n) + len(v) for n, v in scope["headers"]) > HEADER_BYTES:
                return http_problem(431, f"more than {HEADERS} headers, or more than {HEADER_BYTES} bytes of them")
            host = self._check_host(scope, headers.getlist("host"))
            csrf.check_source(
                scope["method"], headers.getlist("origin"), headers.get("sec-fetch-site"), self._origins(host)
            )
        except OSProtocolError as error:
            return answer_of(error)
        if _ODD_PATH.search(scope.get("raw_path") or scope["path"].encode()) or not scope["path"].startswith("/"):
            return http_problem(404, "no such path; paths are written plainly here")
        if not scope.get("query_string", b"").isascii():
            return http_problem(400, "the query is not ASCII; write other characters with percent signs")
        if headers.get("content-encoding", "identity").lower() != "identity":
            return http_problem(415, "compressed bodies are not taken")
        return None

    def _check_host(self, scope: Scope, hosts: list[str]) -> str:
        """The Host header, if it is one of ours; a name that another site points at this machine is not.

        Raises:
            NotPermittedError: it is not.
        """
        found = _HOST.match(hosts[0].lower()) if len(hosts) == 1 else None
        if found is not None:
            name, port = found[1], found[2]
            if self._is_ours(scope, name, None if port is None else int(port)):
                return hosts[0].lower()
        raise NotPermittedError(
            f"a request for host {(hosts or [''])[0][:80]!r}",
            "be answered",
            "start the server with --allow-host if that is one of its names",
        )

    def _is_ours(self, scope: Scope, name: str, port: int | None) -> bool:
        public = self._public
        if public.hostname is not None and name.strip("[]") == public.hostname:
            default = _DEFAULT_PORTS.get(public.scheme)
            if (port or default) == (public.port or default):
                return True
        for allowed in self._settings.allow_hosts:
            if allowed.lower() in (name, name if port is None else f"{name}:{port}"):
                return True
        server = scope.get("server") or (None, None)
        if (port or 80) != (server[1] or port or 80):
            return False
        if name in _LOOPBACK_NAMES:
            return True
        if name.strip("[]") == self._settings.host.lower():
            return True
        # An address cannot be pointed elsewhere by somebody's name server, so the one that was dialled is ours.
        return _is_address(name) and name.strip("[]") == server[0]

    def _origins(self, host: str) -> set[str]:
        """The origins of our own pages: of the host that was asked for, and of the public address."""
        public = self._public
        is_secure = public.scheme == "https" and urlsplit(f"//{host}").hostname == public.hostname
        origins = {f"{scheme}://{host}" for scheme in (("https",) if is_secure else ("http", "https"))}
        if public.netloc:
            origins.add(f"{public.scheme}://{public.netloc.lower()}")
        for scheme, port in _DEFAULT_PORTS.items():
            origins |= {one.removesuffix(f":{port}") for one in origins if one.startswith(f"{scheme}:")}
        return origins


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _judge_body(scope: Scope, body: bytes) -> Response | None:
    """A program sends JSON, a page a form: anything else could be sent by a page of another site without asking."""
    if not body:
        return None
    kind = Headers(scope=scope).get("content-type", "")
    if not scope["path"].startswith("/api/"):
        return None if csrf.is_form(kind) else http_problem(415, "pages take forms only")
    if kind.split(";")[0].strip().lower() != "application/json":
        return http_problem(415, "a body must be application/json")
    return None


def _as_get(scope: Scope) -> Scope:
    """HEAD is GET without a body; nor is it ever a stream, whose answer would not end."""
    if scope["method"] != "HEAD":
        return scope
    headers = [one for one in scope["headers"] if one[0] != b"accept" or _STREAM.encode() not in one[1].lower()]
    return {**scope, "method": "GET", "headers": headers}


class _Replayed:
    """A body that was read already, then what the connection still says: that it ended."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Outgoing:
    """What leaves: the security headers are added, and a stream may take as long as it wants."""

    def __init__(self, send: Send, fixed: Iterable[tuple[str, str]], scope: Scope, limit: asyncio.Timeout) -> None:
        self.status: int | None = None
        self._limit = limit
        self._send = send
        self._fixed = fixed
        self._is_static = scope["path"].startswith("/static/")
        self._is_head = scope["method"] == "HEAD"

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._fixed:
                headers[name] = value
            if not (self._is_static and "cache-control" in headers and self.status < 400):
                headers["Cache-Control"] = "no-store"
            if headers.get("content-type", "").startswith(_STREAM):
                self._limit.reschedule(None)
        elif self._is_head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)


def _fixed_headers(*, secure: bool) -> list[tuple[str, str]]:
    headers = [
        ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        # Not "no-referrer": browsers then send "Origin: null" with our own forms too.
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ]
    if secure:
        headers.append(("Strict-Transport-Security", "max-age=31536000"))
    return headers


def _write_access_log(scope: Scope, status: int | None, began: float) -> None:
    if not _access_log.isEnabledFor(logging.INFO):
        return
    state: dict[str, Any] = scope.get("state") or {}
    principal = state.get("principal")
    # Paths are logged as they were sent, percent signs and all: a line break in one is no line break in the log.
    path = (scope.get("raw_path") or b"?").partition(b"?")[0].decode("ascii", "backslashreplace")
    _access_log.info(
        "%s %s %s %.1f ms %r",
        scope["method"],
        redact_text("".join(one if one.isprintable() else repr(one)[1:-1] for one in path)),
        status or "-",
        (monotonic_s() - began) * 1_000,
        principal.name if principal is not None else "-",
    )
