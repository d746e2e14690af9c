"""Every error that osprotocol raises, as one tree.

::

    OSProtocolError
    ├── UsageError                 your code or your call is wrong
    │   ├── WorkflowDefinitionError, DuplicateWorkflowError, UnknownWorkflowError
    │   ├── NoClientError, WrongLoopError, WrongTaskError, ForeignAwaitError
    │   ├── InvalidNameError, InvalidValueError, InvalidOptionError, LimitExceededError
    │   ├── NotSignedInError, NotPermittedError, TooManyRequestsError, DuplicateRequestError
    │   └── NotSupportedError
    ├── RunError                   about one run; always has its `run_id`
    │   ├── RunNotFoundError, AmbiguousRunIdError, InvalidTransitionError, IdempotencyConflictError
    │   ├── RunFailedError, RunTimedOutError, RunCancelledError      what `execution.result` raises
    │   ├── StepFailedError, StepTimedOutError, ChildFailedError, InputExpiredError, ApprovalRejectedError
    │   ├── CancelVetoedError, JournalMismatchError, FencedError
    │   └── RequestError           about one request of a run
    │       ├── RequestNotFoundError, AmbiguousRequestError, RequestClosedError, StaleRequestError
    │       └── NotAnApproverError, VoteConflictError, InvalidAnswerError
    ├── EngineError                the ground under us
    │   ├── EngineClosedError, ForkedProcessError, WorkerNotFoundError
    │   ├── UnreachableError, UnsupportedPlatformError, UnsupportedFilesystemError
    │   └── StoreError, StorageFullError, ReadOnlyError, CorruptDatabaseError, SchemaTooNewError
    └── TerminalError              raised by workflow code: ends the run, no retry

`code` is stable and is what HTTP answers and ``--json`` carry; `http_status` is the status of such an answer. Facts
are attributes; the text is made from them, one line.
"""

from __future__ import annotations

from typing import Any, ClassVar


class OSProtocolError(Exception):
    """The root of the tree."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        text = vars(cls).get("__str__")
        if text is not None and cls.__module__ == __name__:
            # Facts come from anywhere and may have line breaks; the text is one line all the same.
            cls.__str__ = lambda self: " ".join(text(self).splitlines())  # type: ignore[method-assign]

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class TerminalError(OSProtocolError):
    """Raise it in a workflow or a step when trying again cannot help: the run ends `failed` and is not retried."""

    code = "terminal"
    http_status = 409


# ------------------------------------------------------------------ UsageError


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
    """Something is larger, longer or more than the named limit of `osprotocol._limits` allows."""

    code = "limit-exceeded"
    http_status = 413

    def __init__(self, what: str, size: int, limit_name: str, limit: int) -> None:
        super().__init__(what, size, limit_name, limit)
        self.what, self.size, self.limit_name, self.limit = what, size, limit_name, limit

    def __str__(self) -> str:
        return f"{self.what}: {self.size} is over the limit {self.limit_name} = {self.limit}"


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
        return f"{self.operation} is not supported by the {self.engine} engine{advice}"


# -------------------------------------------------------------------- RunError


class RunError(OSProtocolError):
    """About one run."""

    code = "run"
    http_status = 409

    def __init__(self, run_id: str, *facts: Any) -> None:
        super().__init__(run_id, *facts)
        self.run_id = run_id


class RunNotFoundError(RunError):
    """No run has that id."""

    code = "run-not-found"
    http_status = 404

    def __str__(self) -> str:
        return f"run {self.run_id!r} does not exist here; 'osp list' shows the runs of this database"


class AmbiguousRunIdError(RunError):
    """Several runs begin with the shortened id."""

    code = "ambiguous-run-id"

    def __init__(self, run_id: str, matches: tuple[str, ...]) -> None:
        super().__init__(run_id, matches)
        self.matches = matches

    def __str__(self) -> str:
        return f"run id {self.run_id!r} is short for several runs: {', '.join(self.matches)}; give more characters"


class InvalidTransitionError(RunError):
    """The run's state does not allow the command."""

    code = "invalid-transition"

    def __init__(self, run_id: str, command: str, status: str, advice: str = "") -> None:
        super().__init__(run_id, command, status, advice)
        self.command, self.status, self.advice = command, status, advice

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"run {self.run_id}: cannot {self.command}, it is {self.status}{advice}"


class IdempotencyConflictError(RunError):
    """The idempotency key was used before with another input."""

    code = "idempotency-conflict"

    def __init__(self, run_id: str, workflow: str, key: str) -> None:
        super().__init__(run_id, workflow, key)
        self.workflow, self.key = workflow, key

    def __str__(self) -> str:
        return (
            f"run {self.run_id}: idempotency key {self.key!r} of workflow {self.workflow!r} was used with another "
            f"input; use the same input, or another key"
        )


class RunFailedError(RunError):
    """The run ended `failed`; `error_type` and `message` tell what its code raised."""

    code = "run-failed"

    def __init__(self, run_id: str, error_type: str, message: str, attempts: int = 1) -> None:
        super().__init__(run_id, error_type, message, attempts)
        self.error_type, self.message, self.attempts = error_type, message, attempts

    def __str__(self) -> str:
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"run {self.run_id} failed{tries}: {self.error_type}: {self.message}"


class RunTimedOutError(RunFailedError):
    """The run ended `failed` because its attempt ran longer than its timeout."""

    code = "run-timed-out"

    def __init__(self, run_id: str, timeout_ms: int, attempts: int = 1) -> None:
        RunError.__init__(self, run_id, timeout_ms, attempts)
        self.timeout_ms, self.attempts = timeout_ms, attempts
        self.error_type, self.message = "RunTimedOutError", f"ran longer than {timeout_ms} ms"

    def __str__(self) -> str:
        return f"run {self.run_id} timed out: an attempt ran longer than {self.timeout_ms} ms"


class RunCancelledError(RunError):
    """The run ended `cancelled`. Not `asyncio.CancelledError`: the caller that reads the result is not cancelled."""

    code = "run-cancelled"

    def __init__(self, run_id: str, reason: str | None = None, cancelled_by: str | None = None) -> None:
        super().__init__(run_id, reason, cancelled_by)
        self.reason, self.cancelled_by = reason, cancelled_by

    def __str__(self) -> str:
        by = f" by {self.cancelled_by}" if self.cancelled_by else ""
        return f"run {self.run_id} was cancelled{by}: {self.reason or 'no reason given'}"


class StepFailedError(RunError):
    """A step failed on every attempt. The same on the first pass and on replay."""

    code = "step-failed"

    def __init__(self, run_id: str, step: str, error_type: str, message: str, attempts: int, key: str = "") -> None:
        super().__init__(run_id, step, error_type, message, attempts, key)
        self.step, self.error_type, self.message, self.attempts, self.key = step, error_type, message, attempts, key

    def __str__(self) -> str:
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"step {self.step!r} failed{tries}: {self.error_type}: {self.message} (run {self.run_id})"


class StepTimedOutError(RunError, TimeoutError):
    """An attempt of a step ran longer than the step's timeout."""

    code = "step-timed-out"

    def __init__(self, run_id: str, step: str, timeout_ms: int) -> None:
        super().__init__(run_id, step, timeout_ms)
        self.args = (run_id, step, timeout_ms)  # Python's own TimeoutError takes a third one for a file name
        self.step, self.timeout_ms = step, timeout_ms

    def __str__(self) -> str:
        return f"step {self.step!r} ran longer than {self.timeout_ms} ms (run {self.run_id})"


class ChildFailedError(RunError):
    """A child run did not complete; `run_id` is the child's."""

    code = "child-failed"

    def __init__(
        self, run_id: str, workflow: str, status: str, error_type: str = "", message: str = "", key: str = ""
    ) -> None:
        super().__init__(run_id, workflow, status, error_type, message, key)
        self.workflow, self.status, self.error_type, self.message, self.key = (
            workflow, status, error_type, message, key
        )  # fmt: skip

    def __str__(self) -> str:
        why = f": {self.error_type}: {self.message}" if self.error_type else ""
        return f"child run {self.run_id} of workflow {self.workflow!r} ended {self.status}{why}"


class InputExpiredError(RunError):
    """Nobody gave the input before its deadline."""

    code = "input-expired"

    def __init__(self, run_id: str, prompt: str, timeout_ms: int | None = None) -> None:
        super().__init__(run_id, prompt, timeout_ms)
        self.prompt, self.timeout_ms = prompt, timeout_ms

    def __str__(self) -> str:
        return f"run {self.run_id}: nobody answered {self.prompt!r} within {self.timeout_ms} ms"


class ApprovalRejectedError(RunError):
    """`approval.require()` on an approval that was not given. Uncaught, it ends the run `cancelled`."""

    code = "approval-rejected"

    def __init__(self, run_id: str, outcome: str, reason: str | None = None) -> None:
        super().__init__(run_id, outcome, reason)
        self.outcome, self.reason = outcome, reason

    def __str__(self) -> str:
        return f"run {self.run_id}: approval {self.outcome}: {self.reason or 'no reason given'}"


class CancelVetoedError(RunError):
    """`before_cancel` returned False; the run goes on."""

    code = "cancel-vetoed"

    def __str__(self) -> str:
        return f"run {self.run_id}: its before_cancel vetoed the cancel, the run goes on"


class JournalMismatchError(RunError):
    """The code asks for something else than what the journal holds at that place."""

    code = "journal-mismatch"

    def __init__(self, run_id: str, key: str, recorded: str, asked: str) -> None:
        super().__init__(run_id, key, recorded, asked)
        self.key, self.recorded, self.asked = key, recorded, asked

    def __str__(self) -> str:
        return (
            f"run {self.run_id}: at position {self.key} the journal holds {self.recorded} but the code asks for "
            f"{self.asked}; nothing was executed; mend the code and answer 'retry'"
        )


class FencedError(RunError):
    """This worker no longer owns the run; what it wanted to write was refused."""

    code = "fenced"

    def __str__(self) -> str:
        return f"run {self.run_id} now belongs to another worker or has ended; the write was refused"


class RequestError(RunError):
    """About one request of a run."""

    code = "request"

    def __init__(self, run_id: str, request_id: str, *facts: Any) -> None:
        super().__init__(run_id, request_id, *facts)
        self.request_id = request_id


class RequestNotFoundError(RequestError):
    """The run has no such request, or no open one."""

    code = "request-not-found"
    http_status = 404

    def __init__(self, run_id: str, request_id: str, kind: str = "request") -> None:
        super().__init__(run_id, request_id, kind)
        self.kind = kind

    def __str__(self) -> str:
        if self.request_id:
            return f"run {self.run_id} has no {self.kind} {self.request_id!r}; 'osp show' lists its requests"
        return f"run {self.run_id} has no open {self.kind}; nothing waits for that answer"


class AmbiguousRequestError(RequestError):
    """Several requests of that kind are open and none was named."""

    code = "ambiguous-request"

    def __init__(self, run_id: str, request_id: str, kind: str, open_ids: tuple[str, ...]) -> None:
        super().__init__(run_id, request_id, kind, open_ids)
        self.kind, self.open_ids = kind, open_ids

    def __str__(self) -> str:
        named = f"{len(self.open_ids)} open requests of kind {self.kind}: {', '.join(self.open_ids)}"
        return f"run {self.run_id} has {named}; name one with request_id"


class RequestClosedError(RequestError):
    """The request was decided before; `outcome` tells how."""

    code = "request-closed"

    def __init__(self, run_id: str, request_id: str, outcome: str, closed_by: str | None = None) -> None:
        super().__init__(run_id, request_id, outcome, closed_by)
        self.outcome, self.closed_by = outcome, closed_by

    def __str__(self) -> str:
        by = f" by {self.closed_by}" if self.closed_by else ""
        return f"request {self.request_id}: already {self.outcome}{by}; this answer changed nothing"


class StaleRequestError(RequestError):
    """The request changed after it was shown to the person who answers."""

    code = "stale-request"

    def __init__(self, run_id: str, request_id: str, seen: str, current: str) -> None:
        super().__init__(run_id, request_id, seen, current)
        self.seen, self.current = seen, current

    def __str__(self) -> str:
        return f"request {self.request_id}: you saw {self.seen}, it is now {self.current}; look again and answer again"


class NotAnApproverError(RequestError):
    """The person is not one of the named approvers."""

    code = "not-an-approver"
    http_status = 403

    def __init__(self, run_id: str, request_id: str, by: str, approvers: tuple[str, ...]) -> None:
        super().__init__(run_id, request_id, by, approvers)
        self.by, self.approvers = by, approvers

    def __str__(self) -> str:
        return f"request {self.request_id}: {self.by} may not vote; approvers are {', '.join(self.approvers)}"


class VoteConflictError(RequestError):
    """The person voted before, differently. A vote is final."""

    code = "vote-conflict"

    def __init__(self, run_id: str, request_id: str, by: str, vote: str) -> None:
        super().__init__(run_id, request_id, by, vote)
        self.by, self.vote = by, vote

    def __str__(self) -> str:
        return f"request {self.request_id}: {self.by} has already voted {self.vote}; one vote a person, and it is final"


class InvalidAnswerError(RequestError):
    """The answer does not fit the request's schema; nothing was stored and the request stays open."""

    code = "invalid-answer"
    http_status = 422

    def __init__(self, run_id: str, request_id: str, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__(run_id, request_id, problems)
        self.problems = problems

    def __str__(self) -> str:
        told = "; ".join(f"{path}: {message}" for path, message in self.problems)
        return f"request {self.request_id}: the answer does not fit: {told}"


# ----------------------------------------------------------------- EngineError


class EngineError(OSProtocolError):
    """The engine or what it stands on; nothing about one run."""

    code = "engine"
    http_status = 503

    def __init__(self, where: str = "", detail: str = "") -> None:
        super().__init__(where, detail)
        self.where, self.detail = where, detail

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}"


class EngineClosedError(EngineError):
    """The client was closed."""

    code = "engine-closed"

    def __str__(self) -> str:
        return "this client is closed; its runs are parked and go on when a worker connects"


class WorkerNotFoundError(EngineError):
    """No living worker has that id."""

    code = "worker-not-found"
    http_status = 404

    def __str__(self) -> str:
        return f"worker {self.where!r} is not alive here; 'osp workers' lists those that are"


class ForkedProcessError(EngineError):
    """The client was inherited by a forked process, where it must not be used."""

    code = "forked-process"

    def __str__(self) -> str:
        return "this process was forked from the one that connected; call connect() again in the child process"


class UnreachableError(EngineError):
    """The server does not answer. Whether it did what it was asked last is not known."""

    code = "unreachable"
    retryable = True

    def __str__(self) -> str:
        return f"{self.where}: cannot be reached ({self.detail}); is 'osp serve' running there?"


class UnsupportedPlatformError(EngineError):
    """The embedded engine runs on Linux and macOS."""

    code = "unsupported-platform"

    def __str__(self) -> str:
        return f"the embedded engine runs on Linux and macOS, not on {self.where}; connect to a server with http://..."


class UnsupportedFilesystemError(EngineError):
    """SQLite's locks cannot be trusted on the file system that holds the database."""

    code = "unsupported-filesystem"

    def __str__(self) -> str:
        return f"{self.where}: locks of a {self.detail} file system cannot be trusted; put the database on a local disk"


class StoreError(EngineError):
    """The database could not do it. The outcome of a commit that failed is read back, never guessed."""

    code = "store"
    retryable = True


class StorageFullError(StoreError):
    """No space is left; nothing that was acknowledged is lost and work goes on once there is space."""

    code = "storage-full"

    def __str__(self) -> str:
        return f"{self.where}: no space is left on the disk; free some, the runs then go on by themselves"


class ReadOnlyError(StoreError):
    """The database or its folder cannot be written."""

    code = "read-only"
    retryable = False

    def __str__(self) -> str:
        return f"{self.where}: cannot be written ({self.detail}); check the owner and mode of the file and its folder"


class CorruptDatabaseError(StoreError):
    """The file is not a database, or is damaged."""

    code = "corrupt-database"
    retryable = False

    def __str__(self) -> str:
        return f"{self.where}: no usable osprotocol database ({self.detail}); restore a backup made by 'osp backup'"


class SchemaTooNewError(EngineError):
    """The database was written by a newer version of osprotocol."""

    code = "schema-too-new"

    def __init__(self, where: str, found: int, known: int) -> None:
        EngineError.__init__(self, where, f"{found} > {known}")
        self.args = (where, found, known)
        self.found, self.known = found, known

    def __str__(self) -> str:
        known = f"this osprotocol knows versions up to {self.known}"
        return f"{self.where}: has schema version {self.found}, {known}; upgrade osprotocol"
