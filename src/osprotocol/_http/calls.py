"""One HTTP request after another: sent again when that is safe, and every refusal as the error that it was."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from osprotocol._http.address import Address, Token
from osprotocol._http.problems import error_of
from osprotocol._ids import Ids
from osprotocol.errors import (
    EngineClosedError,
    EngineError,
    InvalidOptionError,
    NotSupportedError,
    OSProtocolError,
    TooManyRequestsError,
    UnreachableError,
)

if TYPE_CHECKING:
    import httpx2

API = "/api/v1"
Query = Mapping[str, Any]

# Between the tries of a request that may be sent again; a server that restarts is back by then.
_PAUSES_S = (0.1, 0.3, 0.9, 1.8)
_LONGEST_PAUSE_S = 5
_CONNECT_S = 5.0
# Longer than a server lets any request take.
_ANSWER_S = 40.0
# A server says something on a live stream every 15 s, be it that nothing happened.
_SILENCE_S = 45.0
_BUSY = (502, 503, 504)
_JSON = "application/json"
_PROBLEM = "application/problem+json"
_STREAM = "text/event-stream"


class Calls:
    """The requests of one client to one server.

    Args:
        address: where the server is.
        token: who we are; None is nobody, which a server refuses.
        ids: makes the Idempotency-Key of each POST.

    Attributes:
        under_way: how many requests have no answer yet; a live stream does not count.
        answered: how many have been answered.

    Raises:
        NotSupportedError: the packages that HTTP needs are not installed.
        InvalidOptionError: no server can have that address.
    """

    def __init__(self, address: Address, token: Token | None, ids: Ids) -> None:
        try:
            import httpx2
        except ImportError:
            raise NotSupportedError(
                f"connect({address.url!r})", "http", 'without httpx2: pip install "osprotocol[http]"'
            ) from None
        self.address = address
        self.token = token
        self.under_way = 0
        self.answered = 0
        self._ids = ids
        self._trouble = httpx2.TransportError
        self._unusable = httpx2.InvalidURL
        self._closed = False
        # A plain connection verifies nothing, and reading the machine's certificates takes a while.
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if address.is_plain else ssl.create_default_context()
        try:
            self._http = httpx2.AsyncClient(
                base_url=address.url + API,
                verify=verify,
                timeout=httpx2.Timeout(_ANSWER_S, connect=_CONNECT_S, pool=None),
                trust_env=not address.is_local,  # a proxy is no way to this machine
            )
        except httpx2.InvalidURL as error:
            raise InvalidOptionError("url", f"{address.url!r} is not usable: {error}") from None
        self._stream_timeout = httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S, pool=None)

    async def get(self, path: str, query: Query | None = None, *, patient: bool = True) -> Any:
        """The JSON that is at a path.

        Args:
            path: below the API's own.
            query: its parameters; None values are left out.
            patient: ask again when nobody answers.

        Raises:
            UnreachableError: nobody answers. Any error of ours: what the server answered.
        """
        chosen = {name: value for name, value in (query or {}).items() if value is not None}
        return await self._call("GET", path, query=chosen, again=patient)

    async def post(self, path: str, body: bytes = b"{}", *, token: Token | None = None) -> Any:
        """Do something, once, however often it has to be sent; gives the JSON of the answer.

        Args:
            path: below the API's own.
            body: JSON.
            token: who does it; the client's own by default.

        Raises:
            UnreachableError: nobody answers; whether it was done is not known. Any error of ours: the server's answer.
        """
        headers = {"Content-Type": _JSON, "Idempotency-Key": f"{self._ids.bits(128):032x}"}
        return await self._call("POST", path, body=body, headers=headers, token=token, again=True)

    async def delete(self, path: str) -> None:
        """Remove what is at a path. Sent once: whether a lost answer was a yes cannot be asked afterwards."""
        await self._call("DELETE", path, again=False)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        token: Token | None = None,
        again: bool,
    ) -> Any:
        pauses = iter(_PAUSES_S if again else ())
        sent = {"Accept": _JSON, **(headers or {}), **self._signed(token)}
        self.under_way += 1
        try:
            while True:
                if self._closed:
                    raise EngineClosedError()
                try:
                    response = await self._http.request(method, path, params=query, content=body, headers=sent)
                    return self._read(response)
                except self._unusable as unfit:
                    raise InvalidOptionError("filter", f"does not fit into a URL: {unfit}") from None
                except (self._trouble, UnreachableError) as trouble:
                    error, pause = self._unreachable(trouble), next(pauses, None)
                except TooManyRequestsError as refusal:  # nothing was done, and it says when to come back
                    error, pause = refusal, next(pauses, None) and refusal.retry_after_s
                if pause is None or pause > _LONGEST_PAUSE_S:
                    raise error from None
                await asyncio.sleep(pause)
        finally:
            self.under_way -= 1
            self.answered += 1

    def _signed(self, token: Token | None) -> dict[str, str]:
        chosen = token or self.token
        return {} if chosen is None else {"Authorization": f"Bearer {chosen.secret}"}

    def _unreachable(self, trouble: Exception) -> OSProtocolError:
        if self._closed:
            return EngineClosedError()
        if isinstance(trouble, OSProtocolError):
            return trouble
        detail = str(trouble) or type(trouble).__name__
        if "WRONG_VERSION_NUMBER" in detail:
            detail = "it answers plain http, not https"
        return UnreachableError(self.address.url, detail.splitlines()[0])

    def _read(self, response: httpx2.Response) -> Any:
        status, kind = response.status_code, response.headers.get("content-type", "").partition(";")[0]
        if status == 204:
            return None
        where = self.address.url
        try:
            content = from_json(response.content) if kind in (_JSON, _PROBLEM) else None
        except ValueError:
            raise EngineError(where, "answered JSON that cannot be read") from None
        if kind == _PROBLEM:
            error = error_of(content, where)
            if isinstance(error, EngineClosedError):  # the server's client, not ours: it is about to stop
                raise UnreachableError(where, "it is stopping")
            raise error
        if status in _BUSY:
            raise UnreachableError(where, f"answered {status} {response.reason_phrase}")
        if not response.is_success or content is None:
            raise EngineError(where, f"answered {status} {response.reason_phrase}, which is no answer of osp serve")
        return content

    @asynccontextmanager
    async def stream(self, path: str, query: Query, headers: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """A live stream; gives its bytes.

        Raises:
            UnreachableError: nobody answers, or the stream was cut. Any error of ours: what the server answered.
        """
        sent = {"Accept": _STREAM, **headers, **self._signed(None)}
        try:
            async with self._http.stream(
                "GET", path, params=query, headers=sent, timeout=self._stream_timeout
            ) as response:
                if response.headers.get("content-type", "").partition(";")[0] != _STREAM:
                    await response.aread()
                    self._read(response)
                    raise EngineError(self.address.url, "answered something else than a live stream")
                yield response.aiter_bytes()
        except self._trouble as trouble:
            raise self._unreachable(trouble) from None

    async def close(self) -> None:
        """Let go of every connection; what is under way fails."""
        self._closed = True
        await self._http.aclose()
