"""Values to JSON and back: the only doors through which user data enters and leaves the store.

A value that does not come back equal is refused with the path of the offending part: nothing is stored that
replay would hand out differently.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import lru_cache, wraps
from typing import Any, Generic, ParamSpec, TypeVar

from pydantic import BaseModel, PydanticSchemaGenerationError, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, from_json, to_json

from osprotocol import _limits
from osprotocol.errors import (
    CorruptDatabaseError,
    InvalidValueError,
    LimitExceededError,
    OSProtocolError,
    WorkflowDefinitionError,
)

T = TypeVar("T")
P = ParamSpec("P")
_PLAIN = (str, int, bool, type(None))
_SCALARS = frozenset((str, int, float, bool, type(None)))
Problems = tuple[tuple[str, str], ...]
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])')


class Codec(Generic[T]):
    """Validates, stores and restores the values of one type.

    Args:
        annotation: the type; ``Any`` means plain JSON values only.
        what: how errors name the value, for example "result of step 'load'".
    """

    __slots__ = ("_adapter", "annotation", "what")

    def __init__(self, annotation: Any, what: str) -> None:
        self.annotation = annotation
        self.what = what
        self._adapter: TypeAdapter[T] | None = None
        if isinstance(annotation, TypeAdapter):
            self._adapter = annotation

    @property
    def adapter(self) -> TypeAdapter[T]:
        if self._adapter is None:
            try:
                self._adapter = TypeAdapter(self.annotation)
            except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
                raise WorkflowDefinitionError(
                    self.what, f"its type cannot be used: {str(error).splitlines()[0]}"
                ) from None
        return self._adapter

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the type."""
        if self.annotation is Any:
            return {}
        return self.adapter.json_schema()

    def validate(self, value: Any) -> T:
        """The value as the type, from Python data.

        Raises:
            InvalidValueError: with the path of each problem.
        """
        if self.annotation is Any:
            return value  # type: ignore[no-any-return]
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            raise InvalidValueError(self.what, problems_of(error)) from None

    def load(self, data: bytes | str) -> T:
        """The value that was stored.

        Raises:
            InvalidValueError: the data does not fit the type.
        """
        if self.annotation is Any:
            try:
                return from_json(data)  # type: ignore[no-any-return]
            except ValueError as error:
                raise InvalidValueError(self.what, (("$", f"is not JSON: {error}"),)) from None
        try:
            return self.adapter.validate_json(data)
        except ValidationError as error:
            raise InvalidValueError(self.what, problems_of(error)) from None

    def dump(self, value: Any) -> tuple[bytes, T]:
        """JSON of the value, and the value as it will come back from that JSON.

        Raises:
            InvalidValueError: it does not fit the type, or does not survive (NaN, secrets, keys that are not text).
            LimitExceededError: the JSON is larger than PAYLOAD_BYTES.
        """
        plain = type(value) in _PLAIN
        if self.annotation is Any:
            if not plain:
                _check_plain(value, self.what)
            data, back = self._encode(value, to_json), value
            if not plain:
                back = from_json(data)
        else:
            value = self.validate(value)
            data = self._encode(value, self.adapter.dump_json)
            back = value if type(value) in _PLAIN and type(value) is self.annotation else self._reload(value, data)
            if not plain and _is_too_deep(data):
                raise InvalidValueError(self.what, (("$", f"is nested deeper than JSON_DEPTH = {_limits.JSON_DEPTH}"),))
        if len(data) > _limits.PAYLOAD_BYTES:
            raise LimitExceededError(self.what, len(data), "PAYLOAD_BYTES", _limits.PAYLOAD_BYTES)
        return data, back

    def _encode(self, value: Any, encode: Callable[[Any], bytes]) -> bytes:
        try:
            return encode(value)
        except (PydanticSerializationError, UnicodeEncodeError, ValueError, RecursionError) as error:
            problem = find_problem(value) or ("$", f"has no JSON form: {str(error).splitlines()[0]}")
            raise InvalidValueError(self.what, (problem,)) from None

    def _reload(self, value: T, data: bytes) -> T:
        try:
            back = self.adapter.validate_json(data)
            if back == value or (find_problem(value) is None and self.adapter.dump_json(back) == data):
                return back
            problem = find_problem(value) or ("$", "does not survive JSON: it comes back different")
        except (ValidationError, PydanticSerializationError) as error:
            problem = find_problem(value) or ("$", f"does not survive JSON: {str(error).splitlines()[-1].strip()}")
        raise InvalidValueError(self.what, (problem,)) from None


@lru_cache(maxsize=512)
def codec(annotation: Any, what: str) -> Codec[Any]:
    """The codec of a type, made once."""
    return Codec(annotation, what)


def problems_of(error: ValidationError) -> Problems:
    """Pydantic's complaints as (path, message) pairs."""
    return tuple((path_of(item["loc"]), item["msg"]) for item in error.errors(include_url=False, include_context=False))


def path_of(location: tuple[int | str, ...]) -> str:
    """``$.items[2].price`` for ("items", 2, "price")."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _children(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return list(enumerate(value))
    if isinstance(value, BaseModel):
        return [(name, getattr(value, name)) for name in type(value).model_fields]
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return []


def find_problem(value: Any, path: str = "$", depth: int = 0) -> tuple[str, str] | None:
    """The first part of a value that JSON cannot carry, as (path, message)."""
    if depth > _limits.JSON_DEPTH:
        return path, f"is nested deeper than JSON_DEPTH = {_limits.JSON_DEPTH}"
    if isinstance(value, float) and not math.isfinite(value):
        return path, f"{value} is not a JSON number"
    if isinstance(value, str) and _has_surrogate(value):
        return path, "holds a lone surrogate, which is no text"
    if isinstance(value, dict) and any(isinstance(key, str) and _has_surrogate(key) for key in value):
        return path, "has a key with a lone surrogate, which is no text"
    if isinstance(value, SecretStr | SecretBytes):
        return path, "is a secret; secrets are never stored, pass a reference to one"
    for name, child in _children(value):
        inner = f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}"
        found = find_problem(child, inner, depth + 1)
        if found is not None:
            return found
    return None


def _has_surrogate(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_too_deep(data: bytes) -> bool:
    """Whether JSON text is nested deeper than JSON_DEPTH; almost always told by counting its brackets."""
    if data.count(b"[") + data.count(b"{") <= _limits.JSON_DEPTH:
        return False
    depth = 0
    for found in _BRACKETS.finditer(data):
        if found.lastindex is not None:
            depth += 1 if found.lastindex == 1 else -1
            if depth > _limits.JSON_DEPTH:
                return True
    return False


def _check_plain(value: Any, what: str, path: str = "$", depth: int = 0) -> None:
    kind = type(value)
    if kind in _PLAIN:
        return
    if depth > _limits.JSON_DEPTH:
        raise InvalidValueError(what, ((path, f"is nested deeper than JSON_DEPTH = {_limits.JSON_DEPTH}"),))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValueError(what, ((path, f"{value} is not a JSON number"),))
    elif kind is dict:
        for key, child in value.items():
            if type(key) is not str:
                raise InvalidValueError(what, ((path, f"key {key!r} is not text"),))
            _check_plain(child, what, f"{path}.{key}", depth + 1)
    elif kind is list or kind is tuple:
        for index, child in enumerate(value):
            _check_plain(child, what, f"{path}[{index}]", depth + 1)
    elif not isinstance(value, str | int):
        raise InvalidValueError(
            what,
            (
                (
                    path,
                    f"a {kind.__name__} value needs a declared type to survive JSON; annotate the function",
                ),
            ),
        )


def canonical(value: Any) -> bytes:
    """One JSON text for equal values: sorted keys, no spaces, sets in order. What digests are made of."""
    if type(value) is int or (type(value) is str and value.isascii()):
        return to_json(value)
    return json.dumps(_sorted(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode(
        "utf-8", "surrogatepass"
    )


def _sorted(value: Any, depth: int = 0) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    if depth > 2 * _limits.JSON_DEPTH:
        return "…"
    if isinstance(value, set | frozenset):
        return sorted((_sorted(item, depth + 1) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, dict):
        return {str(key): _sorted(child, depth + 1) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_sorted(child, depth + 1) for child in value]
    children = _children(value)
    if children:
        return {name: _sorted(child, depth + 1) for name, child in children}
    try:
        return from_json(to_json(value))
    except (PydanticSerializationError, ValueError):
        return f"<{kind.__module__}.{kind.__qualname__}>"


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def arguments_digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """A short digest of a call's arguments; those without a JSON form count by their type only."""
    if not kwargs and len(args) == 1:
        data = canonical(args[0])
    elif not kwargs and all(type(arg) in _SCALARS for arg in args):
        odd = any(type(arg) is str and not arg.isascii() for arg in args)
        data = b"*" + (canonical(list(args)) if odd else to_json(args))
    else:
        data = canonical([list(args), kwargs])
    return hashlib.sha256(data).hexdigest()[:16]


def parse(data: bytes | str, what: str, *, limit: int = _limits.PAYLOAD_BYTES) -> Any:
    """JSON text from outside, strictly: no NaN, no key twice, bounded in size and depth.

    Raises:
        InvalidValueError: it is not JSON.
        LimitExceededError: it is larger than `limit`.
    """
    size = len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise LimitExceededError(what, size, "PAYLOAD_BYTES", limit)
    try:
        value = from_json(data, allow_inf_nan=False)
    except (ValueError, TypeError) as error:  # a lone surrogate in a `str` is told as a wrong type
        raise InvalidValueError(what, (("$", f"is not JSON: {error}"),)) from None
    problem = find_problem(value) or _find_repeated(data)
    if problem is not None:
        raise InvalidValueError(what, (problem,))
    return value


class _Pairs(list[tuple[str, Any]]):
    """An object as it is written."""


def _find_repeated(data: bytes | str) -> tuple[str, str] | None:
    """The first object of valid JSON that has a key twice, as (path, message): readers differ in which one counts."""
    repeated = False

    def look(pairs: list[tuple[str, Any]]) -> _Pairs:
        nonlocal repeated
        repeated = repeated or len({key for key, _ in pairs}) < len(pairs)
        return _Pairs(pairs)

    written = json.loads(data, object_pairs_hook=look, parse_int=len, parse_float=len)
    return _path_to_repeated(written, "$") if repeated else None


def _path_to_repeated(value: Any, path: str) -> tuple[str, str] | None:
    known: set[str | int] = set()
    children = value if isinstance(value, _Pairs) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        inner = f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}"
        if name in known:
            return inner, "is there twice"
        known.add(name)
        found = _path_to_repeated(child, inner)
        if found is not None:
            return found
    return None


def reads_stored(function: Callable[P, T]) -> Callable[P, T]:
    """A function that makes something of stored records, which were checked when they were written.

    Raises:
        CorruptDatabaseError: nobody wrote them like that.
    """

    @wraps(function)
    def read(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except OSProtocolError:
            raise
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            detail = f"a record is damaged ({function.__name__}: {type(error).__name__})"
            raise CorruptDatabaseError("the database", detail) from error

    return read


def encode(value: Any) -> str:
    """JSON text of our own records, which are known to be plain."""
    return to_json(value).decode()


def decode(data: str | bytes | None) -> Any:
    """What `encode` wrote; None for None.

    Raises:
        CorruptDatabaseError: it is something else.
    """
    try:
        return None if data is None else from_json(data)
    except ValueError as error:
        raise CorruptDatabaseError("a record", f"is not JSON: {error}") from None
