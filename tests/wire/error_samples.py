"""One example of every error, as it would be raised."""

from __future__ import annotations

from osprotocol import errors as e

RUN, REQUEST = "2h8k1r", "2h8k1r-5"
DATABASE = ".osp/runs.db"
SEEN, NOW = "1:" + "0" * 8, "2:" + "1" * 8

SAMPLES: tuple[e.OSProtocolError, ...] = (
    e.OSProtocolError("something is wrong"),
    e.TerminalError("rejected: not this year"),
    e.UsageError("the call is wrong"),
    e.WorkflowDefinitionError("publish", "it takes no context"),
    e.DuplicateWorkflowError("publish", "shop.publish", "blog.publish"),
    e.UnknownWorkflowError("publish", ("build", "deploy")),
    e.NoClientError(),
    e.WrongLoopError(),
    e.WrongTaskError("ctx.step"),
    e.ForeignAwaitError("publish", "shop.py:12", "asyncio.sleep"),
    e.InvalidNameError("run id", "a/b", "only lower-case letters, digits, '-' and '_' are allowed"),
    e.InvalidOptionError("Retry.attempts", "must be at least 0"),
    e.InvalidValueError("input of workflow 'publish'", (("$.items[2].price", "Input should be a valid number"),)),
    e.LimitExceededError("result of step 'load'", 2_000_000, "PAYLOAD_BYTES", 1_048_576),
    e.UserNotFoundError("mallory"),
    e.UserExistsError("ann"),
    e.TokenNotFoundError("k3m9"),
    e.NotSignedInError(),
    e.NotPermittedError("ann", "start runs", "that needs the role operator"),
    e.TooManyRequestsError("attempts to sign in", 30),
    e.DuplicateRequestError("order-17"),
    e.NotSupportedError("backup", "http", "run 'osp backup' on the server's machine"),
    e.RunError(RUN),
    e.RunNotFoundError(RUN),
    e.AmbiguousRunIdError("2h", ("2h8k1r", "2h9zzz")),
    e.InvalidTransitionError(RUN, "resume", "in-progress", "it is not paused"),
    e.IdempotencyConflictError(RUN, "publish", "order-17"),
    e.RunFailedError(RUN, "ValueError", "no such file", 3),
    e.RunTimedOutError(RUN, 30_000, 2),
    e.RunCancelledError(RUN, "not needed any more", "ann"),
    e.StepFailedError(RUN, "load", "ValueError", "no such file", 4, "3.1.2"),
    e.StepTimedOutError(RUN, "load", 5_000),
    e.ChildFailedError("3k2m9q", "build", "failed", "ValueError", "no such file", "2"),
    e.InputExpiredError(RUN, "Title?", 60_000),
    e.ApprovalRejectedError(RUN, "rejected", "not this year"),
    e.CancelVetoedError(RUN),
    e.JournalMismatchError(RUN, "2", "step load (arguments 1a2b)", "step save (arguments 3c4d)"),
    e.FencedError(RUN),
    e.RequestError(RUN, REQUEST),
    e.RequestNotFoundError(RUN, REQUEST, "approval"),
    e.AmbiguousRequestError(RUN, "", "approval", (REQUEST, "2h8k1r-7")),
    e.RequestClosedError(RUN, REQUEST, "approved", "ann"),
    e.StaleRequestError(RUN, REQUEST, SEEN, NOW),
    e.NotAnApproverError(RUN, REQUEST, "mallory", ("ann", "bob")),
    e.VoteConflictError(RUN, REQUEST, "ann", "approved"),
    e.InvalidAnswerError(RUN, REQUEST, (("$.version", "must match a version number"),)),
    e.EngineError(DATABASE, "cannot use a write-ahead log here"),
    e.EngineClosedError(),
    e.WorkerNotFoundError("1m81bsz1n1we3d7t84s0"),
    e.ForkedProcessError(),
    e.UnreachableError("http://127.0.0.1:8321", "connection refused"),
    e.LedgerUnreachableError("http://10.0.0.1:8080", "no answer in time; is a worker running?"),
    e.UnsupportedPlatformError("win32"),
    e.UnsupportedFilesystemError(DATABASE, "nfs4"),
    e.StoreError(DATABASE, "disk I/O error"),
    e.StorageFullError(DATABASE, "database or disk is full"),
    e.ReadOnlyError(DATABASE, "Permission denied"),
    e.CorruptDatabaseError(DATABASE, "file is not a database"),
    e.SchemaTooNewError(DATABASE, 4, 1),
)


def all_errors() -> list[type[e.OSProtocolError]]:
    """Every class of the tree, in the order of the file."""
    return [found for found in vars(e).values() if isinstance(found, type) and issubclass(found, e.OSProtocolError)]
