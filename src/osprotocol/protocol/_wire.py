"""The one place that says camelCase: the base of every shape that goes over the wire."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel

from osprotocol import _limits
from osprotocol._clock import from_datetime, to_iso, to_ms
from osprotocol.errors import InvalidOptionError

Instant = Annotated[
    datetime, PlainSerializer(lambda moment: to_iso(from_datetime(moment)), return_type=str, when_used="json")
]
"""An aware UTC datetime; on the wire ISO 8601 with milliseconds."""


class Wire(BaseModel):
    """snake_case in Python, camelCase as JSON; frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        defer_build=True,
    )

    def to_wire(self) -> dict[str, Any]:
        """The protocol's JSON form as Python data."""
        return self.model_dump(mode="json", by_alias=True)


class Options(Wire):
    """A wire shape that people write by hand: mistakes become `InvalidOptionError`, one line, not a pydantic dump."""

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"]) or "options"
            raise InvalidOptionError(f"{type(self).__name__}.{name}", first["msg"]) from None


def duration_ms(value: int | timedelta | None, option: str, *, least: int = 0) -> int | None:
    """Checked whole milliseconds of a duration option; None stays None.

    Raises:
        InvalidOptionError: not a whole number or timedelta, too small, or over DURATION_MS.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | timedelta):
        raise InvalidOptionError(option, f"must be whole milliseconds or a timedelta, not {value!r}")
    milliseconds = to_ms(value)
    if milliseconds < least:
        raise InvalidOptionError(option, f"must be at least {least} ms, not {milliseconds}")
    if milliseconds > _limits.DURATION_MS:
        raise InvalidOptionError(option, f"{milliseconds} ms is over the limit DURATION_MS = {_limits.DURATION_MS}")
    return milliseconds
