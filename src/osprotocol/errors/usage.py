"""Errors of those who call: their code or their call is wrong."""

from __future__ import annotations

from osprotocol.errors.root import OSProtocolError

_UNITS = ("_BYTES", "_CHARACTERS")


class UsageError(OSProtocolError):
    """The calling code is wrong; the same call will fail again."""

    code = "usage"
    http_status = 400


class WorkflowDefinitionError(UsageError):
    """A function cannot be a workflow or a step as it is written."""

    code = "workflow-definition"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


class DuplicateWorkflowError(UsageError):
    """Two different functions of one process claim the same workflow name."""

    code = "duplicate-workflow"

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(name, first, second)
        self.name, self.first, self.second = name, first, second

    def __str__(self) -> str:
        return (
            f"workflow {self.name!r} is defined twice, by {self.first} and by {self.second}; "
            f"give one of them another name with @workflow(name=...)"
        )


class UnknownWorkflowError(UsageError):
    """No workflow of that name is defined in this process, or in the server that was asked."""

    code = "unknown-workflow"
    http_status = 404

    def __init__(self, name: str, known: tuple[str, ...] = ()) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        return f"workflow {self.name!r} is not defined here (known: {known}); import it, or start the server with it"


class NoClientError(UsageError):
    """`start()` without a connected client."""

    code = "no-client"

    def __init__(self, reason: str = "no client is connected") -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.reason}; use 'async with osprotocol.connect() as client:' around it, "
            f"or osprotocol.run(workflow, input) in a script"
        )


class WrongLoopError(UsageError):
    """A client was used from another event loop or thread than the one that it was connected on."""

    code = "wrong-loop"

    def __str__(self) -> str:
        return "this client belongs to another event loop; use it there, as with asyncio.run_coroutine_threadsafe(...)"


class WrongTaskError(UsageError):
    """A context operation was awaited in a task that the context did not make."""

    code = "wrong-task"

    def __init__(self, operation: str) -> None:
        super().__init__(operation)
        self.operation = operation

    def __str__(self) -> str:
        return (
            f"{self.operation} was called from a task that its context did not make, so its place in the journal is "
            f"unknown; use ctx.gather(...) or ctx.map(...) instead of asyncio.gather and asyncio.create_task"
        )


class ForeignAwaitError(UsageError):
    """A strict workflow awaited something that its context did not make."""

    code = "foreign-await"

    def __init__(self, workflow: str, where: str, what: str) -> None:
        super().__init__(workflow, where, what)
        self.workflow, self.where, self.what = workflow, where, what

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow!r} awaits {self.what} at {self.where}, which is not durable; "
            f"use ctx.sleep, ctx.gather or put it into a step"
        )


class InvalidNameError(UsageError):
    """A name or id is empty, too long or has characters that are not allowed."""

    code = "invalid-name"

    def __init__(self, what: str, value: str, problem: str) -> None:
        super().__init__(what, value, problem)
        self.what, self.value, self.problem = what, value, problem

    def __str__(self) -> str:
        return f"{self.what} {self.value!r} is not usable: {self.problem}"


class InvalidOptionError(UsageError):
    """An option or argument makes no sense."""

    code = "invalid-option"

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)
        self.option, self.problem = option, problem

    def __str__(self) -> str:
        return f"{self.option}: {self.problem}"


class InvalidValueError(UsageError):
    """An input, result, payload or answer does not fit its type or does not survive JSON.

    Attributes:
        what: which value, for example "input of workflow 'publish'".
        problems: (path, message) pairs; the path is ``$`` for the whole value, ``$.a[2]`` for a part of it.
    """

    code = "invalid-value"
    http_status = 422

    def __init__(self, what: str, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__(what, problems)
        self.what, self.problems = what, problems

    def __str__(self) -> str:
        return f"{self.what} is not valid: " + "; ".join(f"{path}: {message}" for path, message in self.problems)


class LimitExceededError(UsageError):
    """Something is larger, longer or more than its limit allows.

    Attributes:
        what: which thing.
        size: how much it has.
        limit_name: of the limit; its last word is the unit.
        limit: how much it may have.
    """

    code = "limit-exceeded"
    http_status = 413

    def __init__(self, what: str, size: int, limit_name: str, limit: int) -> None:
        super().__init__(what, size, limit_name, limit)
        self.what, self.size, self.limit_name, self.limit = what, size, limit_name, limit

    def __str__(self) -> str:
        unit = self.limit_name.rpartition("_")[2].lower() if self.limit_name.endswith(_UNITS) else ""
        size = f"{self.size:,} {unit}".rstrip()
        return f"{self.what}: {size}, the limit {self.limit_name} is {self.limit:,}"


class UserNotFoundError(UsageError):
    """A server knows no person of that name."""

    code = "user-not-found"
    http_status = 404

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"there is no user {self.name!r}; 'osp user list' shows all, 'osp user add' makes one"


class UserExistsError(UsageError):
    """The name of a new person is taken, however it is spelled in capitals and Unicode forms."""

    code = "user-exists"
    http_status = 409

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"there is a user named {self.name!r} already; change that one, or take another name"


class TokenNotFoundError(UsageError):
    """There is no token of that id, or none that the one who asks may see."""

    code = "token-not-found"
    http_status = 404

    def __init__(self, token_id: str) -> None:
        super().__init__(token_id)
        self.token_id = token_id

    def __str__(self) -> str:
        return f"there is no token with the id {self.token_id!r}; 'osp token list' shows all"


class NotSignedInError(UsageError):
    """The server does not know who is asking."""

    code = "not-signed-in"
    http_status = 401

    def __init__(self, problem: str = "no token or session was sent") -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"not signed in: {self.problem}; set OSP_TOKEN to a token made by 'osp token create', or sign in again"


class NotPermittedError(UsageError):
    """The person who asks may not do that."""

    code = "not-permitted"
    http_status = 403

    def __init__(self, person: str, operation: str, advice: str = "") -> None:
        super().__init__(person, operation, advice)
        self.person, self.operation, self.advice = person, operation, advice

    def __str__(self) -> str:
        return f"{self.person} may not {self.operation}" + (f"; {self.advice}" if self.advice else "")


class TooManyRequestsError(UsageError):
    """Asked too often in too short a time."""

    code = "too-many-requests"
    http_status = 429
    retryable = True

    def __init__(self, what: str, retry_after_s: int) -> None:
        super().__init__(what, retry_after_s)
        self.what, self.retry_after_s = what, retry_after_s

    def __str__(self) -> str:
        return f"too many {self.what}; try again in {self.retry_after_s} s"


class DuplicateRequestError(UsageError):
    """The Idempotency-Key was used before, with another request or with one that is still under way."""

    code = "duplicate-request"
    http_status = 409

    def __init__(self, key: str, problem: str = "was used before") -> None:
        super().__init__(key, problem)
        self.key, self.problem = key, problem

    def __str__(self) -> str:
        return f"Idempotency-Key {self.key!r} {self.problem}; use another key for another request"


class NotSupportedError(UsageError):
    """This engine cannot do that."""

    code = "not-supported"
    http_status = 501

    def __init__(self, operation: str, engine: str, advice: str = "") -> None:
        super().__init__(operation, engine, advice)
        self.operation, self.engine, self.advice = operation, engine, advice

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        where = "over HTTP" if self.engine in ("http", "https") else f"by the {self.engine} engine"
        return f"{self.operation} is not supported {where}{advice}"
