"""From ``application/problem+json`` back to the same error with the same facts."""

from __future__ import annotations

from typing import Any

from osprotocol import errors
from osprotocol.errors import EngineError, OSProtocolError

_CLASS_BY_CODE: dict[str, type[OSProtocolError]] = {
    found.code: found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, OSProtocolError)
}


def error_of(problem: Any, where: str) -> OSProtocolError:
    """The error that a server answered.

    Args:
        problem: the JSON of the answer.
        where: the server, for an error that this version does not know.
    """
    if not isinstance(problem, dict):
        return EngineError(where, "answered with an error that cannot be read")
    kind = _CLASS_BY_CODE.get(str(problem.get("code")))
    facts = problem.get("facts")
    if kind is not None:
        try:
            error = kind(*_as_given(facts if isinstance(facts, list) else []))
            str(error)  # facts of another version may fit the constructor and not the text
        except (TypeError, ValueError, AttributeError, LookupError):
            pass
        else:
            return error
    return EngineError(where, str(problem.get("detail") or problem.get("title") or "answered with an error"))


def _as_given(value: Any) -> Any:
    """Facts as they were: tuples, which JSON writes as lists."""
    return tuple(_as_given(item) for item in value) if isinstance(value, list) else value
