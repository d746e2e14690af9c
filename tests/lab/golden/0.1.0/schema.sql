PRAGMA application_id = 1330860114;
PRAGMA user_version = 2;
CREATE TABLE runs (
  key INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 128),
  workflow TEXT NOT NULL CHECK (length(workflow) BETWEEN 1 AND 128),
  version TEXT,
  status TEXT NOT NULL CHECK (status IN ('pending', 'in-progress', 'awaiting', 'completed', 'failed', 'cancelled')),
  attempt INTEGER NOT NULL CHECK (attempt >= 0),
  epoch INTEGER NOT NULL CHECK (epoch >= 0),
  owner INTEGER REFERENCES workers (key),
  event INTEGER NOT NULL CHECK (event >= 1),
  executing INTEGER NOT NULL CHECK (executing IN (0, 1)),
  wake INTEGER NOT NULL CHECK (wake >= 0),
  -- derived
  ready_at INTEGER CHECK (ready_at IS NULL OR (owner IS NULL AND ended_at IS NULL)),
  due_at INTEGER CHECK (due_at IS NULL OR ended_at IS NULL),
  -- timers and clocks
  wake_at INTEGER,
  retry_at INTEGER,
  active_us INTEGER NOT NULL,
  active_since INTEGER,
  attempt_at INTEGER,
  timed_out INTEGER NOT NULL CHECK (timed_out IN (0, 1)),
  -- pause
  pause_at INTEGER,
  pause_settled_at INTEGER CHECK (pause_settled_at IS NULL OR pause_at IS NOT NULL),
  pause_by TEXT,
  pause_reason TEXT,
  paused_us INTEGER NOT NULL CHECK (paused_us >= 0),
  -- cancel
  cancel TEXT NOT NULL CHECK (cancel IN ('none', 'asked', 'cancelling')),
  cancel_at INTEGER,
  cancel_deadline INTEGER,
  cancel_by TEXT,
  cancel_reason TEXT,
  judged INTEGER NOT NULL CHECK (judged IN (0, 1)),
  deaths INTEGER NOT NULL CHECK (deaths >= 0),
  -- family
  parent INTEGER,
  parent_id TEXT,
  position TEXT,
  depth INTEGER NOT NULL,
  children_moving INTEGER NOT NULL CHECK (children_moving >= 0),
  children_waiting INTEGER NOT NULL CHECK (children_waiting >= 0),
  open_requests INTEGER NOT NULL CHECK (open_requests >= 0),
  -- what it was started with
  policy TEXT NOT NULL,
  labels TEXT NOT NULL,
  idempotency_key TEXT,
  input_digest TEXT NOT NULL,
  origin TEXT,
  seed TEXT NOT NULL,
  -- what it tells
  progress_current INTEGER NOT NULL,
  progress_total INTEGER NOT NULL,
  progress_message TEXT,
  error TEXT,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  updated_at INTEGER NOT NULL,
  ended_at INTEGER,
  CHECK ((ended_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))),
  CHECK (ended_at IS NULL OR (owner IS NULL AND executing = 0 AND open_requests = 0)),
  CHECK (executing = 0 OR owner IS NOT NULL)
) STRICT;
CREATE INDEX runs_ready ON runs (workflow, ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX runs_due ON runs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX runs_owner ON runs (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_parent ON runs (parent) WHERE parent IS NOT NULL;
CREATE TABLE journal (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  number INTEGER NOT NULL,
  at INTEGER NOT NULL,
  type TEXT NOT NULL,
  status TEXT,
  position TEXT,
  name TEXT,
  digest TEXT,
  started_at INTEGER,
  value TEXT,
  checksum INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX journal_run ON journal (run, number);
CREATE TABLE requests (
  key INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  run INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('approval', 'input', 'attention')),
  position TEXT,
  status TEXT NOT NULL CHECK (status IN ('open', 'approved', 'rejected', 'expired', 'answered', 'cancelled')),
  prompt TEXT NOT NULL,
  payload TEXT,
  digest TEXT NOT NULL,
  revision INTEGER NOT NULL CHECK (revision >= 1),
  schema TEXT,
  approvers TEXT NOT NULL,
  required INTEGER NOT NULL CHECK (required >= 1),
  threshold INTEGER NOT NULL CHECK (threshold >= 1),
  auto_approve INTEGER NOT NULL CHECK (auto_approve IN (0, 1)),
  on_reject TEXT NOT NULL CHECK (on_reject IN ('return', 'cancel', 'continue')),
  opened_at INTEGER NOT NULL,
  expires_at INTEGER,
  closed_at INTEGER,
  responses TEXT NOT NULL,
  answer TEXT,
  message TEXT,
  CHECK ((status = 'open') = (closed_at IS NULL))
) STRICT;
CREATE INDEX requests_run ON requests (run);
CREATE INDEX requests_open ON requests (opened_at) WHERE status = 'open';
CREATE TABLE logs (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  at INTEGER NOT NULL,
  level TEXT NOT NULL,
  message TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  step TEXT,
  fields TEXT
) STRICT;
CREATE INDEX logs_run ON logs (run);
CREATE TABLE hooks (
  run INTEGER PRIMARY KEY,
  number INTEGER NOT NULL
) STRICT;
CREATE TABLE workers (
  key INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('alive', 'dead', 'evicted', 'stopped')),
  started_at INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  workflows TEXT NOT NULL
) STRICT;
CREATE TABLE users (
  key INTEGER PRIMARY KEY,
  name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
  identity TEXT NOT NULL UNIQUE,
  roles TEXT NOT NULL,
  password TEXT,
  created_at INTEGER NOT NULL,
  disabled_at INTEGER
) STRICT;
CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  user INTEGER NOT NULL REFERENCES users (key),
  label TEXT NOT NULL,
  hash TEXT NOT NULL,
  roles TEXT NOT NULL,
  workflows TEXT,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  used_at INTEGER,
  revoked_at INTEGER
) STRICT;
CREATE TABLE sessions (
  hash TEXT PRIMARY KEY,
  user INTEGER NOT NULL REFERENCES users (key),
  created_at INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT;
CREATE TABLE links (
  hash TEXT PRIMARY KEY,
  user INTEGER NOT NULL REFERENCES users (key),
  expires_at INTEGER NOT NULL,
  used_at INTEGER
) STRICT;
CREATE TABLE replies (
  key TEXT PRIMARY KEY,
  digest TEXT NOT NULL,
  run TEXT,
  at INTEGER NOT NULL,
  status INTEGER,
  body TEXT
) STRICT;
CREATE INDEX replies_at ON replies (at);
CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  by TEXT NOT NULL,
  via TEXT NOT NULL,
  action TEXT NOT NULL,
  run TEXT,
  request TEXT,
  detail TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;
CREATE TABLE settings (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;
CREATE INDEX audit_run ON audit (run) WHERE run IS NOT NULL;
CREATE TRIGGER audit_grows BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id >= NEW.id)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_keeps BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
