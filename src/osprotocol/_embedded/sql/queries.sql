-- Named queries: "-- name: x" begins one. Column lists that must match a tuple are filled in by the loader.

-- name: load_run
SELECT {runs_now} FROM runs WHERE key = ?;

-- name: load_run_by_id
SELECT {runs_now} FROM runs WHERE id = ?;

-- name: find_ids
SELECT id FROM runs WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT 6;

-- name: insert_run
INSERT INTO runs ({runs}) VALUES ({runs_values});

-- name: update_run
UPDATE runs SET {runs_assign} WHERE key = ?;

-- name: append
INSERT INTO journal (id, run, number, at, type, status, position, name, digest, started_at, value, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_request
INSERT OR REPLACE INTO requests ({requests}) VALUES ({requests_values});

-- name: open_requests
SELECT {requests} FROM requests WHERE run = ? AND (status = 'open' OR id = ?) ORDER BY key;

-- name: requests_of_run
SELECT {requests} FROM requests WHERE run = ? ORDER BY key;

-- name: request_at
SELECT {requests} FROM requests WHERE run = ? AND position = ? ORDER BY key DESC LIMIT 1;

-- name: find_request
SELECT r.id, q.id FROM requests q JOIN runs r ON r.key = q.run WHERE q.id >= ?1 AND q.id < ?1 || '~' ORDER BY q.id LIMIT 6;

-- name: add_log
INSERT INTO logs (id, run, at, level, message, attempt, step, fields) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: last_ids
SELECT (SELECT ifnull(max(id), 0) FROM journal),
       max((SELECT ifnull(max(key), 0) FROM runs),
           (SELECT ifnull(max(json_extract(value, '$.highestRun')), 0) FROM journal WHERE run = 0)),
       (SELECT ifnull(max(key), 0) FROM requests), (SELECT ifnull(max(id), 0) FROM logs);

-- name: journal_row
SELECT id, run, number, checksum FROM journal WHERE id = ?;

-- name: events_since
SELECT id, run, number, at, type, status, position, name, digest, started_at, value FROM journal
WHERE id > ? ORDER BY id LIMIT ?;

-- name: events_of_run
SELECT id, run, number, at, type, status, position, name, digest, started_at, value, checksum FROM journal
WHERE run = ? AND number > ? ORDER BY number LIMIT ?;

-- name: last_at
SELECT at FROM journal WHERE run = ? ORDER BY number DESC LIMIT 1;

-- name: final_event
SELECT number, at, type, status, position, name, digest, started_at, value, checksum FROM journal
WHERE run = ? AND type = 'run.completed' ORDER BY number DESC LIMIT 1;

-- name: ready_runs
SELECT ready_at, key FROM runs WHERE ready_at IS NOT NULL AND workflow = ? AND deaths = 0 ORDER BY ready_at LIMIT ?;

-- name: ready_suspects
SELECT ready_at, key FROM runs WHERE ready_at IS NOT NULL AND workflow = ? AND deaths = 1 ORDER BY ready_at LIMIT ?;

-- name: ready_prime_suspects
SELECT ready_at, key FROM runs WHERE ready_at IS NOT NULL AND workflow = ? AND deaths > 1 ORDER BY ready_at LIMIT ?;

-- name: due_runs
SELECT key FROM runs WHERE due_at <= ?1 AND (owner IS NULL OR owner = ?2 OR due_at <= ?3) ORDER BY due_at LIMIT ?4;

-- name: next_due
SELECT min(due_at) FROM runs WHERE due_at > ?;

-- name: due_elsewhere
SELECT min(due_at) FROM runs WHERE due_at > ?1 AND due_at <= ?2 AND owner <> ?3;

-- name: children
SELECT key FROM runs WHERE parent = ? AND ended_at IS NULL;

-- name: waiting_children
SELECT {runs_now} FROM runs WHERE parent = ? AND status = 'awaiting';

-- name: owned_runs
SELECT key FROM runs WHERE owner = ?;

-- name: add_worker
INSERT INTO workers (id, name, status, started_at, seen_at, workflows) VALUES (?, ?, 'alive', ?, ?, ?) RETURNING key;

-- name: touch_worker
UPDATE workers SET seen_at = ?2, workflows = ?3 WHERE key = ?1 AND status = 'alive';

-- name: end_worker
UPDATE workers SET status = ?2 WHERE key = ?1 AND status = 'alive';

-- name: living_workers
SELECT key, id, seen_at, workflows FROM workers WHERE status = 'alive' ORDER BY key;

-- name: orphans
SELECT DISTINCT owner FROM runs
WHERE owner IS NOT NULL AND owner NOT IN (SELECT key FROM workers WHERE status = 'alive');

-- name: all_workers
SELECT w.id, w.name, w.status, w.started_at, w.seen_at, w.workflows,
       (SELECT count(*) FROM runs WHERE owner = w.key) FROM workers w ORDER BY w.key DESC LIMIT ?;

-- name: worker_status
SELECT status FROM workers WHERE key = ?;

-- name: worker_name
SELECT name FROM workers WHERE key = ?;

-- name: forget_workers
DELETE FROM workers WHERE status <> 'alive' AND key NOT IN (SELECT owner FROM runs WHERE owner IS NOT NULL)
AND key NOT IN (SELECT key FROM workers ORDER BY key DESC LIMIT 100);

-- name: logs_of_run
SELECT id, at, level, message, attempt, step, fields FROM logs WHERE run = ? AND id > ? ORDER BY id LIMIT ?;

-- name: newest_logs
SELECT id, at, level, message, attempt, step, fields FROM logs WHERE run = ? ORDER BY id DESC LIMIT ?;

-- name: count_logs
SELECT count(*), ifnull(sum(length(message) + ifnull(length(fields), 0)), 0) FROM logs WHERE run = ?;

-- name: prunable
SELECT key, id FROM runs WHERE ended_at < ? AND parent IS NULL ORDER BY ended_at LIMIT ?;

-- name: family
WITH RECURSIVE family (key) AS (SELECT ?1 UNION ALL SELECT r.key FROM runs r JOIN family f ON r.parent = f.key)
SELECT r.key, r.id, r.ended_at FROM family f JOIN runs r ON r.key = f.key;

-- name: delete_run
DELETE FROM runs WHERE key = ?;

-- name: delete_journal
DELETE FROM journal WHERE run = ?;

-- name: delete_requests
DELETE FROM requests WHERE run = ?;

-- name: delete_logs
DELETE FROM logs WHERE run = ?;

-- name: delete_tombstones
DELETE FROM journal WHERE run = 0;

-- name: claim_hook
INSERT INTO hooks (run, number) VALUES (?1, ?2) ON CONFLICT (run) DO UPDATE SET number = ?2 WHERE number < ?2;

-- name: delete_hook
DELETE FROM hooks WHERE run = ?;

-- name: worker_by_id
SELECT key, id, seen_at FROM workers WHERE id >= ?1 AND id < ?1 || '~' AND status = 'alive' LIMIT 6;

-- name: find_reply
SELECT digest, run, status, body FROM replies WHERE key = ? AND at > ?;

-- name: add_reply
INSERT OR REPLACE INTO replies (key, digest, run, at) VALUES (?, ?, ?, ?);

-- name: answer_reply
INSERT INTO replies (key, digest, at, status, body) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET status = excluded.status, body = excluded.body WHERE digest = excluded.digest;

-- name: forget_replies
DELETE FROM replies WHERE at <= ?;

-- name: newest_audit
SELECT id, hash FROM audit ORDER BY id DESC LIMIT ?;

-- name: add_audit
INSERT INTO audit (id, at, by, via, action, run, request, detail, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: count_runs
SELECT workflow, status, count(*) FROM runs GROUP BY workflow, status;

-- name: count_failed
SELECT count(*) FROM runs WHERE status = 'failed' AND ended_at >= ?;

-- name: count_requests
SELECT count(*), min(opened_at), ifnull(sum(expires_at <= ?), 0) FROM requests WHERE status = 'open';

-- name: newest_waits
SELECT r.workflow, (q.closed_at - q.opened_at) / 1000 FROM requests q JOIN runs r ON r.key = q.run
WHERE q.status IN ('approved', 'rejected', 'answered') ORDER BY q.key DESC LIMIT ?;

-- name: newest_events
SELECT id, run, number, at, type, status, position, name, digest, started_at, value FROM journal ORDER BY id DESC LIMIT ?;

-- name: newest_events_of_run
SELECT id, run, number, at, type, status, position, name, digest, started_at, value FROM journal
WHERE run = ? ORDER BY number DESC LIMIT ?;

-- name: all_users
SELECT key, name, roles, password IS NOT NULL, created_at, disabled_at FROM users ORDER BY identity;

-- name: find_user
SELECT key, name, roles, password IS NOT NULL, created_at, disabled_at FROM users WHERE identity = ?;

-- name: user_by_key
SELECT key, name, roles, password IS NOT NULL, created_at, disabled_at FROM users WHERE key = ?;

-- name: password_of
SELECT password FROM users WHERE identity = ?;

-- name: add_user
INSERT INTO users (name, identity, roles, password, created_at) VALUES (?, ?, ?, ?, ?);

-- name: set_roles
UPDATE users SET roles = ?2 WHERE key = ?1;

-- name: set_password
UPDATE users SET password = ?2 WHERE key = ?1;

-- name: set_disabled
UPDATE users SET disabled_at = ?2 WHERE key = ?1;

-- name: all_tokens
SELECT t.id, u.name, t.label, t.roles, t.workflows, t.created_at, t.expires_at, t.used_at, t.revoked_at
FROM tokens t JOIN users u ON u.key = t.user ORDER BY t.created_at, t.id;

-- name: find_token
SELECT t.hash, u.roles, u.disabled_at, t.id, u.name, t.label, t.roles, t.workflows, t.created_at, t.expires_at, t.used_at, t.revoked_at
FROM tokens t JOIN users u ON u.key = t.user WHERE t.id = ?;

-- name: add_token
INSERT INTO tokens (id, user, label, hash, roles, workflows, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: revoke_token
UPDATE tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL;

-- name: touch_token
UPDATE tokens SET used_at = ?2 WHERE id = ?1;

-- name: find_session
SELECT user, created_at, seen_at, expires_at FROM sessions WHERE hash = ? AND expires_at > ?;

-- name: add_session
INSERT INTO sessions (hash, user, created_at, seen_at, expires_at) VALUES (?, ?, ?, ?, ?);

-- name: touch_session
UPDATE sessions SET seen_at = ?2 WHERE hash = ?1;

-- name: close_session
DELETE FROM sessions WHERE hash = ?;

-- name: close_sessions
DELETE FROM sessions WHERE user = ?;

-- name: forget_sessions
DELETE FROM sessions WHERE expires_at <= ?;

-- name: find_link
SELECT user FROM links WHERE hash = ? AND expires_at > ? AND used_at IS NULL;

-- name: add_link
INSERT INTO links (hash, user, expires_at) VALUES (?, ?, ?);

-- name: use_link
UPDATE links SET used_at = ?2 WHERE hash = ?1;

-- name: close_links
DELETE FROM links WHERE user = ?;

-- name: forget_links
DELETE FROM links WHERE expires_at <= ?;

-- name: find_setting
SELECT value FROM settings WHERE name = ?;

-- name: put_setting
INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: add_setting
INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING;

-- name: audit_page
SELECT id, at, by, via, action, run, request, detail, hash FROM audit
WHERE id < ?1 AND (?2 IS NULL OR by = ?2) ORDER BY id DESC LIMIT ?3;

-- name: audit_of_run
SELECT id, at, by, via, action, run, request, detail, hash FROM audit
WHERE run = ?2 AND id < ?1 AND (?3 IS NULL OR by = ?3) AND (?4 IS NULL OR request = ?4) ORDER BY id DESC LIMIT ?5;

-- name: whole_audit
SELECT id, at, by, via, action, run, request, detail, hash FROM audit ORDER BY id;

-- name: audit_hash
SELECT hash FROM audit WHERE id = ?;
