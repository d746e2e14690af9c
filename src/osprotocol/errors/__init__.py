"""Every error that osprotocol raises, as one tree.

::

    OSProtocolError
    ├── UsageError                 your code or your call is wrong
    │   ├── WorkflowDefinitionError, DuplicateWorkflowError, UnknownWorkflowError
    │   ├── NoClientError, WrongLoopError, WrongTaskError, ForeignAwaitError
    │   ├── InvalidNameError, InvalidValueError, InvalidOptionError, LimitExceededError
    │   ├── NotSignedInError, NotPermittedError, TooManyRequestsError, DuplicateRequestError
    │   ├── UserNotFoundError, UserExistsError, TokenNotFoundError
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
    │   ├── UnreachableError, UnsupportedPlatformError, UnsupportedFilesystemError, SchemaTooNewError
    │   └── StoreError, StorageFullError, ReadOnlyError, CorruptDatabaseError, LedgerUnreachableError
    └── TerminalError              raised by workflow code: ends the run, no retry

`code` is stable and is what HTTP answers and ``--json`` carry; `http_status` is the status of such an answer. Facts
are attributes; the text is made from them, one line.
"""

from osprotocol.errors.engine import (
    CorruptDatabaseError,
    EngineClosedError,
    EngineError,
    ForkedProcessError,
    LedgerUnreachableError,
    ReadOnlyError,
    SchemaTooNewError,
    StorageFullError,
    StoreError,
    UnreachableError,
    UnsupportedFilesystemError,
    UnsupportedPlatformError,
    WorkerNotFoundError,
)
from osprotocol.errors.root import OSProtocolError, TerminalError
from osprotocol.errors.run import (
    AmbiguousRequestError,
    AmbiguousRunIdError,
    ApprovalRejectedError,
    CancelVetoedError,
    ChildFailedError,
    FencedError,
    IdempotencyConflictError,
    InputExpiredError,
    InvalidAnswerError,
    InvalidTransitionError,
    JournalMismatchError,
    NotAnApproverError,
    RequestClosedError,
    RequestError,
    RequestNotFoundError,
    RunCancelledError,
    RunError,
    RunFailedError,
    RunNotFoundError,
    RunTimedOutError,
    StaleRequestError,
    StepFailedError,
    StepTimedOutError,
    VoteConflictError,
)
from osprotocol.errors.usage import (
    DuplicateRequestError,
    DuplicateWorkflowError,
    ForeignAwaitError,
    InvalidNameError,
    InvalidOptionError,
    InvalidValueError,
    LimitExceededError,
    NoClientError,
    NotPermittedError,
    NotSignedInError,
    NotSupportedError,
    TokenNotFoundError,
    TooManyRequestsError,
    UnknownWorkflowError,
    UsageError,
    UserExistsError,
    UserNotFoundError,
    WorkflowDefinitionError,
    WrongLoopError,
    WrongTaskError,
)

__all__ = [
    "AmbiguousRequestError",
    "AmbiguousRunIdError",
    "ApprovalRejectedError",
    "CancelVetoedError",
    "ChildFailedError",
    "CorruptDatabaseError",
    "DuplicateRequestError",
    "DuplicateWorkflowError",
    "EngineClosedError",
    "EngineError",
    "FencedError",
    "ForeignAwaitError",
    "ForkedProcessError",
    "IdempotencyConflictError",
    "InputExpiredError",
    "InvalidAnswerError",
    "InvalidNameError",
    "InvalidOptionError",
    "InvalidTransitionError",
    "InvalidValueError",
    "JournalMismatchError",
    "LedgerUnreachableError",
    "LimitExceededError",
    "NoClientError",
    "NotAnApproverError",
    "NotPermittedError",
    "NotSignedInError",
    "NotSupportedError",
    "OSProtocolError",
    "ReadOnlyError",
    "RequestClosedError",
    "RequestError",
    "RequestNotFoundError",
    "RunCancelledError",
    "RunError",
    "RunFailedError",
    "RunNotFoundError",
    "RunTimedOutError",
    "SchemaTooNewError",
    "StaleRequestError",
    "StepFailedError",
    "StepTimedOutError",
    "StorageFullError",
    "StoreError",
    "TerminalError",
    "TokenNotFoundError",
    "TooManyRequestsError",
    "UnknownWorkflowError",
    "UnreachableError",
    "UnsupportedFilesystemError",
    "UnsupportedPlatformError",
    "UsageError",
    "UserExistsError",
    "UserNotFoundError",
    "VoteConflictError",
    "WorkerNotFoundError",
    "WorkflowDefinitionError",
    "WrongLoopError",
    "WrongTaskError",
]
