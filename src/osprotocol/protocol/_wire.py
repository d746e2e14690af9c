"""The one place that says camelCase: the base of every shape that goes over the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from osprotocol import _limits
from osprotocol._clock import from_datetime, to_iso, to_ms
from osprotocol.errors import InvalidOptionError

Instant = Annotated[
    datetime, PlainSerializer(lambda moment: to_iso(from_datetime(moment)), return_type=str, when_used="json")
]
"""An aware UTC datetime; on the wire ISO 8601 with milliseconds."""


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("needs a time zone, for example 2026-01-31T00:00:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is not in the years 1 to 9999") from None


GivenInstant = Annotated[Instant, AfterValidator(_in_utc)]
"""An instant that somebody outside gave: without a time zone it names none."""


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
            raise _refusal(type(self), error) from None

    @classmethod
    def from_wire(cls, data: Any) -> Self:
        """The options that another program sent in the wire's form, checked like those written by hand.

        Raises:
            InvalidOptionError: an option is unknown or makes no sense.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _refusal(cls, error) from None

    @model_validator(mode="wrap")
    @classmethod
    def _name_as_in_python(cls, data: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        """Each subclass has an ``__init__`` with Python's names; pydantic hands it the keys as they were sent."""
        if not isinstance(data, dict):
            return build(data)
        names = {field.alias or name: name for name, field in cls.model_fields.items()}
        for key in data:
            if key not in names and key not in cls.model_fields:
                raise InvalidOptionError(f"{cls.__name__}.{str(key)[:40]}", "is not a known option")
        given = {names.get(key, key): value for key, value in data.items()}
        for name, field in cls.model_fields.items():
            if field.is_required() and name not in given:
                raise InvalidOptionError(f"{cls.__name__}.{name}", "is required")
        try:
            return build(given)
        except (TypeError, AttributeError):  # the ``__init__`` takes its arguments for what they should be
            raise InvalidOptionError(cls.__name__, "has a value of the wrong type") from None


def _refusal(options: type[Options], error: ValidationError) -> InvalidOptionError:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "options"
    return InvalidOptionError(f"{options.__name__}.{name}", first["msg"])


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
