"""Blacking out secrets in what people see: values with telling names for viewers, known token shapes for everybody.

Who sees what:

* `redact_text` and ``redact(value, fully=False)``: token shapes. For everybody, in log lines, the views of steps and
  events, error texts and the audit log.
* ``redact(value, fully=True)``: also values whose name or schema says that they are secret. For those whom
  `sees_redacted` names, in inputs, results, payloads, answers and logs too.
* An approval's payload is shown exactly to whoever may vote on it, and a result to whoever may do more than look.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pydantic_core import from_json, to_json

from osprotocol.server.access import Principal, Role

MASK = "[redacted]"

# Texts come from anybody and are long: a pattern that repeats begins at one place of a word only, so that trying it
# everywhere takes time in proportion to the text.
_SHAPES = re.compile(
    r"""
      \bosp_[0-9a-z]{8,}_[0-9a-z]{32,}                                         # our own
    | \bsk-[A-Za-z0-9_-]{16,} | \b[sr]k_(?:live|test)_[A-Za-z0-9]{10,}         # model providers, Stripe
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_[A-Za-z0-9_]{20,} | \bglpat-[A-Za-z0-9_-]{16,}
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b | \bAIza[0-9A-Za-z_-]{30,} | \bxox[abeoprs]-[A-Za-z0-9-]{10,}
    | (?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{6,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}     # JSON Web Tokens
    | -----BEGIN\ (?:[A-Z0-9]+\ )*PRIVATE\ KEY-----(?:[\s\S]*?-----END\ (?:[A-Z0-9]+\ )*PRIVATE\ KEY-----|[\s\S]*)
    | (?<=://)[^\s/:@"'<>]{1,100}:[^\s/@"'<>]{1,200}(?=@)                      # a password in an address
    | (?i:(?<=\bbearer\ )[a-z0-9._~+/=-]{16,})
    """,
    re.VERBOSE,
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_TELLING = frozenset(
    ("password", "passwd", "passphrase", "pwd", "secret", "secrets", "authorization", "apikey", "credential",
     "credentials", "cookie")
)  # fmt: skip
_TELLING_PAIRS = frozenset((("api", "key"), ("private", "key"), ("access", "key"), ("signing", "key")))
_NAMED_IN_TEXT = re.compile(
    r"(?i)(?<![a-z0-9_-])((?:[a-z0-9]*[_-])*(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|authorization)"
    r"[\"']?\s*[=:]\s*)(?:(?:bearer|basic)\s+)?(\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)"
)
_DEPTH = 200


def sees_redacted(principal: Principal) -> bool:
    """Whether it is somebody who may only look, for whom ``fully=True`` is right."""
    return principal.roles <= {Role.VIEWER}


def redact_text(text: str, *, fully: bool = False) -> str:
    """Text without what has the shape of a token; fully: also without what follows ``password=`` and the like."""
    text = _SHAPES.sub(MASK, text)
    return _NAMED_IN_TEXT.sub(lambda found: found[1] + MASK, text) if fully else text


def redact(value: Any, *, fully: bool, schema: Mapping[str, Any] | None = None) -> Any:
    """A JSON value without secrets; the same object when there is nothing to black out.

    Args:
        value: text, numbers, lists and mappings.
        fully: also what a name or the schema calls secret.
        schema: JSON Schema of the value, with its ``format: password`` and ``writeOnly``.
    """
    return _redact(value, fully, schema if fully else None, schema or {}, 0)


def redact_json(data: bytes, *, fully: bool, schema: Mapping[str, Any] | None = None) -> bytes:
    """As `redact`, for JSON text; the same bytes when there is nothing to black out."""
    if not fully and _SHAPES.search(data.decode("utf-8", "replace")) is None:
        return data
    value = from_json(data)
    clean = redact(value, fully=fully, schema=schema)
    return data if clean is value else to_json(clean)


def is_telling(name: str) -> str | None:
    """Whether a field's name says that it is secret: ``all`` for every value, ``text`` when numbers are counts."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if any(word in _TELLING for word in words) or any(pair in _TELLING_PAIRS for pair in pairwise(words)):
        return "all"
    return "text" if "token" in words else None


def _redact(value: Any, fully: bool, schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    if depth > _DEPTH:
        return MASK
    if schema is not None:
        schema = _resolved(schema, root)
        if value is not None and _is_declared(schema, root):
            return MASK
    if isinstance(value, str):
        return redact_text(value, fully=fully)
    if isinstance(value, Mapping):
        made = {
            # A name can be a token too: a mapping by token, for example.
            redact_text(str(name)): MASK
            if fully and _hides(name, child)
            else _redact(child, fully, _of_property(schema, name, root), root, depth + 1)
            for name, child in value.items()
        }
        same = len(made) == len(value) and all(made.get(name, made) is child for name, child in value.items())
        return value if same else made
    if isinstance(value, list | tuple):
        items = [
            _redact(child, fully, _of_item(schema, index, root), root, depth + 1) for index, child in enumerate(value)
        ]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


def _hides(name: object, child: Any) -> bool:
    kind = is_telling(str(name))
    if kind is None or child is None or isinstance(child, bool):
        return False
    return kind == "all" or not isinstance(child, int | float)


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(20):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        target: Any = root
        for part in reference[2:].split("/"):
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        schema = target
    return schema if isinstance(schema, Mapping) else {}


def _branches(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schema and what it is made of."""
    found, waiting = list[Mapping[str, Any]](), [schema]
    while waiting and len(found) < 50:
        one = _resolved(waiting.pop(), root)
        found.append(one)
        for word in ("anyOf", "oneOf", "allOf"):
            inner = one.get(word)
            waiting += [part for part in inner if isinstance(part, Mapping)] if isinstance(inner, list) else []
    return found


def _is_declared(schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    return any(one.get("format") == "password" or one.get("writeOnly") is True for one in _branches(schema, root))


def _of_property(schema: Any, name: object, root: Mapping[str, Any]) -> Any:
    if not schema:
        return None
    found = []
    for one in _branches(schema, root):
        properties = one.get("properties")
        if isinstance(properties, Mapping) and name in properties:
            found.append(properties[name])
        elif isinstance(one.get("additionalProperties"), Mapping):
            found.append(one["additionalProperties"])
    return {"anyOf": found} if found else None


def _of_item(schema: Any, index: int, root: Mapping[str, Any]) -> Any:
    if not schema:
        return None
    found = []
    for one in _branches(schema, root):
        first = one.get("prefixItems")
        if isinstance(first, list) and index < len(first):
            found.append(first[index])
        elif isinstance(one.get("items"), Mapping):
            found.append(one["items"])
    return {"anyOf": found} if found else None


class RedactingFilter(logging.Filter):
    """Blacks out token shapes in log records. Add it to a server's log handlers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's text; never drops one."""
        text = record.getMessage()
        clean = redact_text(text)
        if clean != text:
            record.msg, record.args = clean, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = redact_text(logging.Formatter().formatException(record.exc_info))
        return True
