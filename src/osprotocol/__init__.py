"""Durable, controllable workflow runs: pause, resume, cancel, approvals and typed input, on one SQLite file."""

from osprotocol._run import Run
from osprotocol.client import Client
from osprotocol.connect import connect, run
from osprotocol.context import Context, CurrentStep, current_step
from osprotocol.errors import OSProtocolError, TerminalError
from osprotocol.execution import Execution
from osprotocol.protocol.approval import Approval, ApprovalConfig, Response
from osprotocol.protocol.cancel import Cancel
from osprotocol.protocol.events import Event, LogLine, Page, StepRecord
from osprotocol.protocol.request import Request
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import ExecutionProgress, RunOptions, RunSnapshot, RunStatus, Waiting
from osprotocol.protocol.timeout import Timeout
from osprotocol.workflow import Step, Workflow, step, workflow

__version__ = "0.1.0"

__all__ = [
    "Approval",
    "ApprovalConfig",
    "Cancel",
    "Client",
    "Context",
    "CurrentStep",
    "Event",
    "Execution",
    "ExecutionProgress",
    "LogLine",
    "OSProtocolError",
    "Page",
    "Request",
    "Response",
    "Retry",
    "Run",
    "RunOptions",
    "RunSnapshot",
    "RunStatus",
    "Step",
    "StepRecord",
    "TerminalError",
    "Timeout",
    "Waiting",
    "Workflow",
    "__version__",
    "connect",
    "current_step",
    "run",
    "step",
    "workflow",
]
