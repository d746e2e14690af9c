"""One full and one bare example of every shape that goes over the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from osprotocol.protocol._wire import Wire
from osprotocol.protocol.approval import Approval, ApprovalConfig, Response
from osprotocol.protocol.cancel import Cancel
from osprotocol.protocol.events import BulkResult, Event, LogLine, Page, StepRecord, WorkerInfo, WorkflowInfo
from osprotocol.protocol.request import Request
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import ErrorInfo, ExecutionProgress, Origin, RunOptions, RunSnapshot, RunStatus, Waiting
from osprotocol.protocol.timeout import Timeout

# Microseconds and another time zone: the wire has milliseconds and UTC.
AT = datetime(2026, 1, 2, 5, 4, 5, 678_912, tzinfo=timezone(timedelta(hours=2)))
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DIGEST = "0" * 64

RESPONSE = Response(by="ann", approved=True, reason="fine", at=AT)
PROGRESS = ExecutionProgress(current=1, total=3, message="draft written")
WAITING = Waiting(
    kind="approval", since=BEGAN, who=("ann", "bob"), until=AT, request_id="r1-5", prompt="Publish?", run_id="child1"
)
ERROR = ErrorInfo(type="ValueError", message="bad", code="invalid-value", details={"timeoutMs": 5})
STEP = StepRecord(
    key="3.1.2", kind="step", name="load", status="failed", attempts=2, started_at=BEGAN, ended_at=AT, error=ERROR
)
EVENT = Event(
    run_id="r1", number=3, cursor=17, type="step.completed", at=AT, status=RunStatus.IN_PROGRESS, key="1", name="load",
    data={"result": [1, {"snake_key": None}]},
)  # fmt: skip
LINE = LogLine(number=4, at=AT, level="info", message="hello", attempt=2, step="load", fields={"row_count": 3})
REQUEST = Request(
    id="r1-5", run_id="r1", workflow="publish", kind="input", status="answered", prompt="Version?",
    payload={"draft_text": "x"}, digest=DIGEST, revision=2, schema={"type": "string"}, approvers=("ann",),
    required_approvals=2, reject_threshold=3, auto_approve_on_timeout=True, opened_at=BEGAN, expires_at=AT,
    closed_at=AT, responses=(RESPONSE,), answer="1.0", message="not a version", gate=True,
)  # fmt: skip
SNAPSHOT = RunSnapshot(
    id="r1", workflow="publish", version="v1", status=RunStatus.AWAITING, progress=PROGRESS, attempt=2, event=9,
    waiting_on=(WAITING,), cancelling=True, cancel_reason="late", cancelled_by="bob", labels={"team_name": "web"},
    idempotency_key="k", parent_id="p1", origin=Origin(kind="fork", run_id="r0", after_step="load"), worker="host:1",
    timeout_at=AT, timeout_left_ms=1_500, stuck="no living worker knows it", created_at=BEGAN, started_at=BEGAN,
    updated_at=AT, ended_at=AT, error=ERROR,
)  # fmt: skip

SHAPES: dict[str, Wire] = {
    "approval": Approval(
        approved=True, reason="fine", approved_by="ann", timestamp=AT, outcome="approved", responses=(RESPONSE,),
        run_id="r1",
    ),
    "approval-config": ApprovalConfig(
        timeout_ms=timedelta(minutes=1), auto_approve_on_timeout=True, approvers=["ann", "bob", "ann"],
        required_approvals=2, reject_threshold=2,
    ),
    "approval-config-bare": ApprovalConfig(),
    "bulk-result": BulkResult(run_id="r1", ok=False, status=RunStatus.FAILED, code="invalid-transition", message="no"),
    "cancel": Cancel(reason="late", graceful=False, graceful_timeout_ms=timedelta(seconds=3)),
    "error-info": ERROR,
    "event": EVENT,
    "event-bare": Event(run_id="r1", number=1, cursor=1, type="run.progress", at=BEGAN),
    "log-line": LINE,
    "origin": Origin(kind="retry", run_id="r0"),
    "page-of-requests": Page[Request](items=(REQUEST,)),
    "page-of-runs": Page[RunSnapshot](items=(SNAPSHOT,), next_cursor="41"),
    "progress": PROGRESS,
    "request": REQUEST,
    "request-bare": Request(
        id="r1-2", run_id="r1", workflow="publish", kind="approval", status="open", prompt="?", digest=DIGEST,
        opened_at=BEGAN,
    ),
    "response": RESPONSE,
    "retry": Retry(
        attempts=5, delay_ms=timedelta(milliseconds=250), backoff="exponential", max_delay_ms=9_000, jitter=0.5
    ),
    "run-options": RunOptions(
        timeout=Timeout(ms=30_000, on_timeout="cancel", clock="wall"), retry=Retry(attempts=1),
        cancel=Cancel(reason="r"),
        labels={"team_name": "web"}, idempotency_key="k", on_complete=print, on_failed=print, on_status_change=print,
    ),
    "run-options-bare": RunOptions(),
    "run-snapshot": SNAPSHOT,
    "run-snapshot-bare": RunSnapshot(
        id="r1", workflow="publish", status=RunStatus.PENDING, created_at=BEGAN, updated_at=BEGAN
    ),
    "step-record": STEP,
    "step-record-bare": StepRecord(key="1", kind="sleep", name="", status="running"),
    "timeout": Timeout(ms=timedelta(seconds=1), on_timeout_callback=print),
    "waiting": WAITING,
    "waiting-paused": Waiting(kind="paused", since=BEGAN, settled=False, prompt="lunch"),
    "worker-info": WorkerInfo(
        id="w1", name="host:1", status="alive", started_at=BEGAN, seen_at=AT, runs=2, workflows=("publish",)
    ),
    "workflow-info": WorkflowInfo(
        name="publish", version="v1", description="Publishes.", input_schema={"type": "string"},
        output_schema={"type": "string"},
    ),
}  # fmt: skip
