"""Proof that a change was asked for by a page of ours, not by another site that the browser is also showing."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection

from fastapi import Request

from osprotocol.errors import NotPermittedError

FIELD = "csrf"
HEADER = "x-csrf-token"
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_ADVICE = "load the page again and send it from there"


def make_token(server_key: bytes, session_hash: str) -> str:
    """The token of a session: whoever does not know the server's key cannot make it, and it ends with the session."""
    return hmac.new(server_key, b"csrf\x00" + session_hash.encode(), hashlib.sha256).hexdigest()


def is_form(content_type: str) -> bool:
    """Whether a body is what a browser's form sends."""
    return content_type.split(";")[0].strip().lower() in _FORMS


async def check_token(request: Request, expected: str) -> None:
    """Refuse a change that came with a cookie but without its token, from the header or the form.

    Raises:
        NotPermittedError: it is missing or another session's.
    """
    sent = request.headers.get(HEADER)
    if sent is None and is_form(request.headers.get("content-type", "")):
        field = (await request.form(max_files=0)).get(FIELD)
        sent = field if isinstance(field, str) else None
    if sent is None or not hmac.compare_digest(sent.encode("utf-8", "replace"), expected.encode()):
        problem = "without its token" if sent is None else "with the token of another session"
        raise NotPermittedError(f"a form {problem}", "change anything", _ADVICE)


def check_source(method: str, origins: list[str], fetch_site: str | None, ours: Collection[str]) -> None:
    """Refuse what a browser says that a page of another site asked for.

    Args:
        method: of the request.
        origins: values of the Origin header, at most one in an honest request.
        fetch_site: of the Sec-Fetch-Site header, which scripts cannot set.
        ours: origins under which the server is known.

    Raises:
        NotPermittedError: it came from elsewhere.
    """
    advice = "the server answers its own pages only; --public-url says under which address they are seen"
    if len(origins) > 1:
        raise NotPermittedError("a request with several Origin headers", "be answered", advice)
    from_us = fetch_site == "same-origin"
    # A page that sends no referrer says "null" although it is ours; the other header then tells.
    if origins and origins[0].lower() not in ours and not (origins[0] == "null" and from_us):
        raise NotPermittedError(f"a page of {_short(origins[0])}", "ask for anything here", advice)
    if method not in SAFE_METHODS and fetch_site is not None and fetch_site not in ("same-origin", "none"):
        raise NotPermittedError(f"a page of another site ({fetch_site[:20]!r})", "change anything here", advice)


def _short(origin: str) -> str:
    return repr(origin[:80]) if origin.lower().startswith(("http://", "https://")) else "an unnamed place"


def check_from_our_page(request: Request) -> None:
    """Refuse a sign-in that no page of ours sent: nobody is to be signed in as somebody else without knowing it.

    `check_source` has judged what the headers say; here one of them has to be there.

    Raises:
        NotPermittedError: the browser does not say where the form was.
    """
    if "origin" not in request.headers and request.headers.get("sec-fetch-site") != "same-origin":
        raise NotPermittedError(
            "a request without an Origin header", "sign in", "programs send a token made by 'osp token create'"
        )
