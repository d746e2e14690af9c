"""Targets that read words: addresses, environment, durations, command-line values, filters, cursors, host names."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import apsw
from pydantic import TypeAdapter, ValidationError

from osprotocol import _limits
from osprotocol._clock import from_datetime
from osprotocol._embedded.database import migrate
from osprotocol._embedded.listing import read_cursor, select_runs
from osprotocol._http import bodies
from osprotocol._http.address import find_token, read_address
from osprotocol._http.calls import Calls
from osprotocol._ids import Ids
from osprotocol._restate.address import Address
from osprotocol.cli.exits import CommandError
from osprotocol.cli.values import duration, input_of, labels, moment, retry, value_for
from osprotocol.client import _filter
from osprotocol.connect import connect
from osprotocol.engine import RequestFilter
from osprotocol.errors import InvalidOptionError, OSProtocolError
from osprotocol.protocol.approval import ApprovalConfig
from osprotocol.protocol.cancel import Cancel
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions
from osprotocol.protocol.timeout import Timeout
from osprotocol.server.guard import Guard
from osprotocol.server.settings import ServerSettings
from osprotocol.server.start_checks import _check_names
from tests.lab.fuzzing.mutation import FIELD
from tests.lab.fuzzing.target import Target, Try, fields_of, joined, plain, text_of
from tests.lab.harness import Violation

VARIABLES = (
    "OSP_URL", "OSP_TOKEN", "OSP_ALLOW_HTTP", "OSP_RESTATE_ADMIN", "OSP_RESTATE_ENDPOINT", "OSP_RESTATE_NODES",
    "OSP_RESTATE_REPLICA", "OSP_RESTATE_IDENTITY_KEYS",
)  # fmt: skip
_ADDRESSES = (
    "http://127.0.0.1:8321", "https://runs.example.org/base/", "http://[::1]:1/", "http://user:pw@localhost:80",
    "restate:http://a:8080,b:8080/shop?admin=http://a:9070&replica=%2Ftmp%2Fx.db", "restate://a,b:1/x", "restate:a",
    "sqlite:runs.db", "runs.db", "/tmp/x/runs.db", "localhost:8321", "postgres://x", "https://xn--bcher-kva.example",
    "https://bücher.example:65536", "http://[::ffff:127.0.0.1]:8321", "restate:https://[::1]/a?endpoint=http://[::1]:9",
)  # fmt: skip


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OSP_")}
    with mock.patch.object(os, "environ", {**kept, **values}):
        yield


def connect_to(data: bytes) -> bool:
    """An address and the environment: a client that is not connected yet. An accepted address reads as itself."""
    words = [text_of(word) for word in fields_of(data, 1 + len(VARIABLES))]
    url, given = words[0] or None, dict(zip(VARIABLES, words[1:], strict=True))
    with _environment({name: value for name, value in given.items() if value and "\x00" not in value}):
        connect(url)
        scheme = (url or os.environ.get("OSP_URL") or "").partition(":")[0].lower()
        if scheme in ("http", "https"):
            address = read_address(url or os.environ["OSP_URL"])
            if read_address(address.url) != address:
                raise Violation(f"{address} reads as another one")
            # What is accepted here must not fail with another's error when the client is entered.
            Calls(address, find_token(None), Ids())
        elif scheme == "restate":
            member = Address.parse(url or os.environ["OSP_URL"], os.environ)
            again = f"restate:{','.join(member.ingress)}/{member.namespace}"
            if Address.parse(again, os.environ).ingress != member.ingress:
                raise Violation(f"{member} reads as another one")
            member.copy_path(Path("/tmp"))
    return True


# ---------------------------------------------------------------------------------- command line

_ORDER = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
    "additionalProperties": {"$ref": "#/$defs/A"},
    "$defs": {"A": {"type": "number"}},
}
_KINDS: tuple[Any, ...] = (_ORDER, {"type": "string"}, {}, {"type": "integer"}, {"anyOf": [{"type": "null"}, _ORDER]})
_WORDS = (
    "90",
    "1.5s",
    "500ms",
    "1h30m",
    "7d",
    "2026-01-02T03:04:05",
    "2026-01-02T03:04:05+23:59",
    "3",
    "3:1s",
    "3:1s:exponential",
    "a=1",
    "a=b=c",
    '{"item":"x","count":2}',
    "item=5",
    "count=null",
    '"x"',
    "[1,2]",
    "NaN",
    "x.json",
    "99999999999999999999s",
    "1" * 400,
    "0.0000000001ms",
)


def read_words(data: bytes) -> bool:
    """Words of a command line as every kind of value; one that is a duration is one below ten years."""
    words = [text_of(word) for word in data.split(FIELD)[:4]]
    accepted = False
    for read in (_duration, functools.partial(moment, option="--since"), retry, lambda word: labels([word])):
        for word in words:
            try:
                read(word)
                accepted = True
            except (CommandError, InvalidOptionError):
                pass
    safe = [word for word in words if word != "-" and not word.startswith("@") and "=@" not in word]
    for kind in _KINDS:
        for word in safe:
            value_for(word, kind, "value")
        if safe:
            input_of(safe, kind, "input")
    return accepted


def _duration(word: str) -> None:
    found = duration(word, "--timeout")
    if not timedelta() <= found <= timedelta(milliseconds=_limits.DURATION_MS):
        raise Violation(f"{word!r} became {found}")


# ---------------------------------------------------------------------------------------- options

_OPTIONS: tuple[TypeAdapter[Any], ...] = tuple(
    TypeAdapter(one) for one in (RunOptions, Timeout, Retry, Cancel, ApprovalConfig)
)
_OPTION_TEXTS = (
    '{"timeout":{"durationMs":5000,"onTimeout":"cancel","clock":"wall"},"labels":{"a":"b"},"idempotencyKey":"k"}',
    '{"durationMs":5000,"onTimeout":"fail"}',
    '{"attempts":3,"delayMs":10,"backoff":"linear","jitter":0.5,"maxDelayMs":100}',
    '{"graceful":true,"gracefulTimeoutMs":10}', '{"approvers":["ann"],"requiredApprovals":1,"timeoutMs":1000}', "{}",
)  # fmt: skip


def read_options(data: bytes) -> bool:
    """Options as they go over the wire; what is accepted comes back equal."""
    number, raw = fields_of(data, 2)
    adapter = _OPTIONS[(number or b"0")[0] % len(_OPTIONS)]
    try:
        options = adapter.validate_json(raw)
        again = adapter.dump_json(options, by_alias=True, exclude_none=True)
        back = adapter.validate_json(again)
    except ValidationError:
        return False
    if back != options:
        raise Violation(f"{options!r} comes back as {back!r}")
    return True


def read_settings(data: bytes) -> bool:
    """Start-up settings of a server, and a request's Host and Origin with them: only our own names are answered."""
    host, public, allowed, asked, origin = map(text_of, fields_of(data, 5))
    settings = ServerSettings(host=host, public_url=public or None, allow_hosts=tuple(filter(None, allowed.split(","))))
    _check_names(settings)
    guard = Guard(_nothing, settings)
    headers = [(b"host", asked.encode("latin-1", "replace")), (b"origin", origin.encode("latin-1", "replace"))]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "headers": headers,
        "server": ("127.0.0.1", 8321),
    }
    refused = guard._judge(scope)
    return refused is None


async def _nothing(*_: Any) -> None:
    """No application."""


# ------------------------------------------------------------------------------ filters and cursors


@contextmanager
def _filters() -> Iterator[Try]:
    """A database with one run in it and a table that nothing may touch."""
    connection = apsw.Connection(":memory:")
    migrate(connection, Path(":memory:"))
    connection.execute("CREATE TABLE canary (secret TEXT); INSERT INTO canary VALUES ('canary')")

    def attempt(data: bytes) -> bool:
        status, workflow, label, text, after, before, parent, cursor, limit = map(text_of, fields_of(data, 9))
        moments = [None if one == "" else moment(one, "--since") for one in (after, before)]
        for one in moments:
            if one is not None:
                from_datetime(one)
        chosen = _filter(
            status.split(",") if status else None, workflow or None, label.split(",") if label else None, text or None,
            moments[0], moments[1], parent or None,
        )  # fmt: skip
        size = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 6 else 50
        sql, values = select_runs(chosen, 50, read_cursor(cursor or None))
        if any(value in sql for value in (workflow, label, text, parent) if len(value) > 3 and "'" in value):
            raise Violation(f"what was given is in the SQL: {sql}")
        with suppress(UnicodeEncodeError):  # as in Store.rows: a lone surrogate is in no row
            connection.execute(sql, tuple(values)).fetchall()
        if connection.execute("SELECT group_concat(secret) FROM canary").get != "canary":
            raise Violation("the canary was touched")
        bodies.runs_query(chosen, size, cursor or None)
        bodies.requests_query(RequestFilter(None, person=workflow, kind=label, run_id=parent), size, cursor or None)
        return True

    try:
        yield attempt
    finally:
        connection.close()


_FILTERS = (
    joined("failed,completed", "w", "a=b,c=d", "x", "2026-01-01T00:00:00Z", "2h", "p", "17", "50"),
    joined("", "' OR 1=1 --", "a'b=c", "%", "", "", "", "", "200"),
    joined(
        "pending", "", "$.x=1", "", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "", "999999999999999999"
    ),
)

_REFUSALS: tuple[type[Exception], ...] = (OSProtocolError, CommandError)
TARGETS = (
    plain(
        "address",
        (
            *(joined(one) for one in _ADDRESSES),
            joined("", "http://127.0.0.1:1", "osp_token", "1"),
            joined(
                "restate:http://a/x",
                "",
                "",
                "",
                "http://a:1,http://b:2",
                "http://c:1",
                "http://d",
                "/tmp/r",
                "publickeyv1_x",
            ),
        ),
        connect_to,
        batch=300,
    ),
    plain(
        "words",
        (*(joined(one) for one in _WORDS), joined("item=x", "count=2"), joined("1h", "item=@")),
        read_words,
        refusals=_REFUSALS,
        batch=1_000,
    ),
    plain("options", tuple(joined(bytes([n]), one) for n in range(5) for one in _OPTION_TEXTS), read_options),
    plain(
        "settings",
        (
            joined(
                "127.0.0.1",
                "https://runs.example.org",
                "runs.local,a:80,[::1]:1",
                "runs.example.org",
                "https://runs.example.org",
            ),
            joined("::1", "", "", "localhost:8321", "http://localhost:8321"),
            joined("0.0.0.0", "http://[::1]:99", "", "[::1]:8321", "null"),
        ),
        read_settings,
    ),
    Target("filter", _FILTERS, _filters, refusals=_REFUSALS),
)
