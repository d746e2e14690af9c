"""Errors about one run, or about one request of it."""

from __future__ import annotations

from typing import Any

from osprotocol.errors.root import OSProtocolError


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
        if not self.run_id:
            return f"there is no request {self.request_id!r}; 'osp inbox' shows those that are open"
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
