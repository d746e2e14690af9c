"""`@workflow` and `@step`: plain functions that become durable."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from types import FunctionType, MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    get_type_hints,
    overload,
)

from osprotocol._ids import check_name
from osprotocol._json import Codec
from osprotocol.errors import DuplicateWorkflowError, InvalidOptionError, UnknownWorkflowError, WorkflowDefinitionError
from osprotocol.protocol.events import WorkflowInfo
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions, no_options
from osprotocol.protocol.timeout import Timeout

if TYPE_CHECKING:
    from osprotocol._run import Run
    from osprotocol.context import Context
    from osprotocol.execution import Execution

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
I = TypeVar("I")  # noqa: E741 - the input; its name in every signature below
O = TypeVar("O")  # noqa: E741 - the output

_NO_INPUT = object()


@dataclass(frozen=True, slots=True)
class StepOptions:
    """What `@step` says about a function.

    Attributes:
        name: what the journal calls it; the function's name by default.
        retry: None means one try.
        timeout: limit of each try.
        raises: exception types that are raised as themselves instead of as `StepFailedError`.
        at_most_once: the intent is committed first and the step is never tried again by itself.
    """

    name: str
    retry: Retry | None = None
    timeout: Timeout | None = None
    raises: tuple[type[Exception], ...] = ()
    at_most_once: bool = False


class Step(Protocol[P, R_co]):
    """A function with step options. Calling it calls the plain function."""

    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the plain function."""

    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> Step[P, R_co]: ...
    @overload
    def __get__(self: Step[Concatenate[Any, Q], R], instance: object, owner: Any = None, /) -> Callable[Q, R]: ...

    def with_options(
        self,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        raises: tuple[type[Exception], ...] | None = None,
        at_most_once: bool | None = None,
    ) -> Step[P, R_co]:
        """The same function as a step with other options; what is not given stays."""


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """A step function, ready to be executed."""

    function: Callable[..., Any]
    options: StepOptions
    is_async: bool
    result: Codec[Any]


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Timeout | None = None,
    raises: tuple[type[Exception], ...] = (),
    at_most_once: bool = False,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Make a function a step: its result is journaled, and once committed it never runs again in that run.

    The function stays a plain function; a synchronous one runs in a thread. Retries, timeout and the exceptions that
    come through as themselves are given here.

    Survives a crash: a committed result, the count of retries and the delay before the next.
    """

    def decorate(inner: Callable[..., Any]) -> Any:
        if not callable(inner):
            raise WorkflowDefinitionError(repr(inner), "@step goes on a function")
        named = {**options, "name": options.get("name") or getattr(inner, "__name__", "step")}
        return _mark(inner, StepOptions(**named))

    return decorate if function is None else decorate(function)


def _mark(function: Callable[..., Any], options: StepOptions) -> Any:
    check_name(options.name, "step name")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise WorkflowDefinitionError(options.name, "a step returns its result; it cannot be a generator")
    if options.at_most_once and options.retry is not None and options.retry.attempts:
        raise InvalidOptionError("step.at_most_once", f"{options.name!r} cannot also have retries")
    # A bound method or a partial cannot carry our attributes: a function around it can.
    marked = cast(Any, function if isinstance(function, FunctionType) else _around(function))
    marked.__osp_step__ = define_step(function, options)
    marked.with_options = functools.partial(_with_options, function, options)
    return marked


def _with_options(function: Callable[..., Any], options: StepOptions, /, **changes: Any) -> Any:
    given = {name: value for name, value in changes.items() if value is not None}
    return _mark(_around(function), replace(options, **given))


def _around(function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def define_step(function: Callable[..., Any], options: StepOptions) -> StepDefinition:
    """The definition of a function as a step with these options."""
    returns = _hints(function).get("return", Any)
    return StepDefinition(
        function,
        options,
        inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(function),
        Codec(returns, f"result of step {options.name!r}"),
    )


def step_definition(function: Callable[..., Any]) -> StepDefinition:
    """What `ctx.step` needs to know of a function, decorated or not."""
    found: StepDefinition | None = getattr(function, "__osp_step__", None)
    if found is not None:
        # A method's step belongs to the class; the call is one of the object.
        return replace(found, function=function) if isinstance(function, MethodType) else found
    if isinstance(function, Workflow):
        raise WorkflowDefinitionError(function.name, "is a workflow; run it with ctx.run(...)")
    if not callable(function):
        raise WorkflowDefinitionError(
            repr(function)[:60], "ctx.step takes a function and its arguments, not its result"
        )
    return _undecorated(function)


@functools.lru_cache(maxsize=1_024)
def _undecorated(function: Callable[..., Any]) -> StepDefinition:
    name = getattr(function, "__name__", type(function).__name__)
    return define_step(function, StepOptions(check_name(name, "step name")))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, TypeError, AttributeError):
        return dict(getattr(function, "__annotations__", {}))


class Workflow(Generic[I, O]):
    """A function that runs durably. Made by `@workflow`.

    Attributes:
        name: what runs of it are stored under.
        version: stored with each run.
        options: defaults of its runs; functions in them are code and work in every process that has it.
    """

    make_run: ClassVar[Callable[..., Run[Any]]]
    """Set by the module of `Run`, which stands above this one."""

    def __init__(
        self,
        function: Callable[..., Awaitable[O]],
        *,
        name: str | None = None,
        version: str | None = None,
        options: RunOptions | None = None,
        strict: bool = False,
    ) -> None:
        self.function = function
        self.name = check_name(name or str(getattr(function, "__name__", "workflow")), "workflow name")
        self.version = version
        self.options = options or no_options()
        self.strict = strict
        functools.update_wrapper(self, function)
        self._check(function)

    def _check(self, function: Callable[..., Any]) -> None:
        if not inspect.iscoroutinefunction(function):
            raise WorkflowDefinitionError(self.name, "a workflow is an 'async def' function")
        parameters = list(inspect.signature(function).parameters.values())
        advice = "write 'async def NAME(ctx: Context, input: Type) -> Type'"
        if not parameters:
            raise WorkflowDefinitionError(self.name, f"it takes no context; {advice}")
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if len(parameters) > 2 or any(parameter.kind not in positional for parameter in parameters):
            raise WorkflowDefinitionError(self.name, f"it takes a context and at most one input value; {advice}")
        hints = _hints(function)
        first = hints.get(parameters[0].name)
        if first is not None and getattr(first, "__name__", "") != "Context" and first is not Any:
            raise WorkflowDefinitionError(self.name, f"its first parameter is {first!r}, not a Context; {advice}")
        self.has_input = len(parameters) == 2
        self.default = parameters[1].default if self.has_input else inspect.Parameter.empty
        annotation = hints.get(parameters[1].name, Any) if self.has_input else None
        self.input = Codec[Any](annotation, f"input of workflow {self.name!r}")
        self.output = Codec[Any](hints.get("return", Any), f"result of workflow {self.name!r}")

    def dump_input(self, value: Any = _NO_INPUT) -> bytes:
        """JSON of an input, checked against the type.

        Raises:
            InvalidValueError: it does not fit, or none was given although one is needed.
        """
        if value is _NO_INPUT or (value is None and self.default is not inspect.Parameter.empty):
            if self.has_input and self.default is not inspect.Parameter.empty:
                value = self.default
            else:
                value = None
        if not self.has_input and value is not None:
            raise WorkflowDefinitionError(self.name, f"it takes no input, but was given {value!r:.60}")
        return self.input.dump(value)[0]

    def load_input(self, data: str | None) -> tuple[Any, ...]:
        """The arguments after the context, from stored JSON."""
        return (self.input.load(data),) if self.has_input and data is not None else ()

    @property
    def info(self) -> WorkflowInfo:
        """Name, version, description and JSON Schemas."""
        return WorkflowInfo(
            name=self.name,
            version=self.version,
            description=inspect.getdoc(self.function),
            input_schema=self.input.schema() if self.has_input else None,
            output_schema=self.output.schema(),
        )

    @overload
    def create_run(self: Workflow[None, O], input: None = None, options: RunOptions | None = None) -> Run[O]: ...
    @overload
    def create_run(self, input: I, options: RunOptions | None = None) -> Run[O]: ...
    def create_run(self, input: Any = _NO_INPUT, options: RunOptions | None = None) -> Run[O]:
        """A run in `pending`, configured but stored nowhere; `await run.start()` stores it.

        Raises:
            InvalidValueError: the input does not fit the workflow's input type.
        """
        return self.make_run(self, self.dump_input(input), options)

    @overload
    async def start(self: Workflow[None, O], input: None = None, options: RunOptions | None = None) -> Execution[O]: ...
    @overload
    async def start(self, input: I, options: RunOptions | None = None) -> Execution[O]: ...
    async def start(self, input: Any = _NO_INPUT, options: RunOptions | None = None) -> Execution[O]:
        """Create a run and start it on the process's current client.

        Survives a crash: once this returns, the run exists and will be executed.
        """
        return await self.make_run(self, self.dump_input(input), options).start()

    async def __call__(self, ctx: Context, *args: Any) -> O:
        """Call the plain function with a context of one's own, for tests."""
        return await self.function(ctx, *args)

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"


@overload
def workflow(function: Callable[[Context], Awaitable[O]], /) -> Workflow[None, O]: ...
@overload
def workflow(function: Callable[[Context, I], Awaitable[O]], /) -> Workflow[I, O]: ...
@overload
def workflow(
    *, name: str | None = None, version: str | None = None, options: RunOptions | None = None, strict: bool = False
) -> _Decorator: ...
def workflow(function: Any = None, /, **settings: Any) -> Any:
    """Make an ``async def`` function of a context and at most one input a workflow.

    Args:
        function: the function, when used without parentheses.
        **settings: `name` (the function's by default), `version` (stored with each run), `options` (defaults of its
            runs) and `strict` (awaiting what the context did not make is an error, not a warning).

    Raises:
        WorkflowDefinitionError: the function cannot be a workflow.
        DuplicateWorkflowError: another function of this process has the name.
    """

    def decorate(inner: Any) -> Any:
        return register(Workflow(inner, **settings))

    return decorate if function is None else decorate(function)


class _Decorator(Protocol):
    @overload
    def __call__(self, function: Callable[[Context], Awaitable[O]], /) -> Workflow[None, O]: ...
    @overload
    def __call__(self, function: Callable[[Context, I], Awaitable[O]], /) -> Workflow[I, O]: ...


_workflows: dict[str, Workflow[Any, Any]] = {}


def register(defined: Workflow[I, O]) -> Workflow[I, O]:
    """Make a workflow known to the process. The same function defined again replaces the earlier one."""
    known = _workflows.get(defined.name)
    if known is not None and _origin(known) != _origin(defined):
        raise DuplicateWorkflowError(defined.name, _origin(known), _origin(defined))
    _workflows[defined.name] = defined
    return defined


def _origin(defined: Workflow[Any, Any]) -> str:
    function = defined.function
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', '?')}"


def find_workflow(name: str) -> Workflow[Any, Any]:
    """The workflow of that name in this process.

    Raises:
        UnknownWorkflowError: there is none.
    """
    found = _workflows.get(name)
    if found is None:
        raise UnknownWorkflowError(name, tuple(sorted(_workflows)))
    return found


def known_workflows() -> dict[str, Workflow[Any, Any]]:
    """The workflows of this process by name; the live mapping, not to be changed."""
    return _workflows


def served_workflow(info: WorkflowInfo) -> Workflow[Any, Any]:
    """A workflow that only a server has: it takes and gives plain JSON, which the server judges."""

    async def without_input(ctx: Any) -> Any:
        raise NotImplementedError

    async def with_input(ctx: Any, input: Any) -> Any:
        raise NotImplementedError

    return Workflow(without_input if info.input_schema is None else with_input, name=info.name)
