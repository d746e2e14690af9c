"""From words on the command line to values: inputs, answers, durations, labels."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from osprotocol import _limits
from osprotocol._clock import SystemClock, to_datetime
from osprotocol._json import parse
from osprotocol.cli.exits import CommandError
from osprotocol.errors import InvalidValueError
from osprotocol.protocol.retry import Retry

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+|\d+(?:\.\d+)?")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])?")
_DIGITS = 9
_UNITS = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3_600, "d": 86_400}


def duration(text: str, option: str) -> timedelta:
    """``90``, ``90s``, ``1h30m``, ``500ms``, ``7d``; a bare number is seconds."""
    if not _DURATION.fullmatch(text.strip()):
        raise CommandError(f"{option}: {text!r} is no duration; write 30s, 5m, 1h30m, 7d or 500ms")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds * 1_000 > _limits.DURATION_MS:
        raise CommandError(f"{option}: {text!r} is over the limit DURATION_MS = {_limits.DURATION_MS}")
    return timedelta(seconds=seconds)


def moment(text: str, option: str) -> datetime:
    """An ISO 8601 instant (UTC unless it says otherwise), or a duration before now."""
    if _DURATION.fullmatch(text.strip()):
        return to_datetime(SystemClock().now()) - duration(text, option)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{option}: {text!r} is neither a duration such as 2h nor an ISO 8601 instant") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def retry(text: str) -> Retry:
    """``3``, ``3:1s`` or ``3:1s:exponential``: retries, delay, backoff."""
    attempts, _, rest = text.partition(":")
    delay, _, backoff = rest.partition(":")
    is_number = attempts.isascii() and attempts.isdigit() and len(attempts) <= _DIGITS
    if not is_number or backoff not in ("", "none", "linear", "exponential"):
        raise CommandError(f"--retry: {text!r} is not N, N:DELAY or N:DELAY:none|linear|exponential")
    options: dict[str, Any] = {"attempts": int(attempts)}
    if delay:
        options["delay_ms"] = duration(delay, "--retry")
    if backoff:
        options["backoff"] = backoff
    return Retry(**options)


def labels(pairs: Sequence[str]) -> dict[str, str]:
    """``name=value`` pairs."""
    parted = [pair.partition("=") for pair in pairs]
    for name, sign, _ in parted:
        if not name or not sign:
            raise CommandError(f"--label: {name!r} is not NAME=VALUE")
    return {name: value for name, _, value in parted}


def resolve(schema: Any, root: Any = None) -> dict[str, Any]:
    """The part of a JSON Schema that says what kind of value is wanted: references followed, null left out."""
    root = schema if root is None else root
    for _ in range(_limits.JSON_DEPTH):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        variants = schema.get("allOf") or [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
        if isinstance(reference, str) and reference.startswith("#/$defs/") and isinstance(root, Mapping):
            schema = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        elif len(variants) == 1:
            schema = {
                **{key: schema[key] for key in ("title", "description", "default") if key in schema},
                **variants[0],
            }
        else:
            return dict(schema)
    return {}


def _only_text(schema: Any, root: Any) -> bool:
    return resolve(schema, root).get("type") == "string"


def value_for(text: str, schema: Any, what: str, root: Any = None) -> Any:
    """The value that a word means where this schema is wanted.

    Where only text is wanted the word is the text (or a JSON string, with its quotes). Else it is JSON, and
    what is not JSON is text; the type then says whether it fits.

    Raises:
        InvalidValueError: it begins like a JSON object or list, and is none.
    """
    if text == "null" and isinstance(schema, Mapping) and {"type": "null"} in schema.get("anyOf", ()):
        return None
    if _only_text(schema, root):
        if len(text) > 1 and text[0] == text[-1] == '"':
            try:
                return parse(text, what)
            except InvalidValueError:
                return text
        return text
    try:
        return parse(text, what)
    except InvalidValueError:
        if text.lstrip()[:1] in ("{", "["):
            raise
        return text


def read_source(word: str) -> str | None:
    """What ``@FILE`` or ``-`` (standard input) names; None for any other word."""
    if word == "-":
        if sys.stdin is None:
            raise CommandError("standard input is closed")
        return sys.stdin.read()
    if not word.startswith("@"):
        return None
    path = Path(word[1:])
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise CommandError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def input_of(words: Sequence[str], schema: dict[str, Any] | None, what: str) -> Any:
    """The input that the words after the target give: JSON, ``key=value`` pairs, ``@FILE``, ``-`` or a text."""
    kind = resolve(schema)
    is_object = kind.get("type") == "object" or not kind
    if len(words) == 1:
        word = words[0]
        source = read_source(word)
        if source is None and word.endswith(".json") and not _only_text(schema, None) and os.path.isfile(word):
            source = read_source("@" + word)
        if source is not None:
            return value_for(source.removesuffix("\n"), schema, what)
        if not (is_object and _is_pair(word)):
            return value_for(word, schema, what)
    if not all(_is_pair(word) for word in words) or not is_object:
        raise CommandError(f"{what}: give one JSON value, or key=value pairs, or @FILE", "input")
    return _pairs(words, kind, schema, what)


def _is_pair(word: str) -> bool:
    name, sign, _ = word.partition("=")
    return bool(sign) and bool(re.fullmatch(r"[A-Za-z_][\w.-]*", name))


def _pairs(words: Sequence[str], kind: dict[str, Any], schema: Any, what: str) -> dict[str, Any]:
    wanted = kind.get("properties", {})
    value: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name in value:
            raise CommandError(f"{what}: {name!r} is given twice", "input")
        source = read_source(text) if text.startswith("@") else None
        property_schema = wanted.get(name, kind.get("additionalProperties", {}))
        value[name] = value_for(
            text if source is None else source.removesuffix("\n"), property_schema, f"{what}, {name}", schema
        )
    return value
