-- The books: who may act through a server, and what people did. Schema version 2; the runs themselves are in schema.sql.
--
-- users     One row a person. `identity` is the name as it is compared, so that no two look alike.
-- tokens    For programs of a person. Only a hash of the secret is here. They may have fewer roles than their person.
-- sessions  Browsers that are signed in; only a hash of the cookie is here.
-- links     Sign-in links that work once.
-- replies   What a request with an Idempotency-Key was answered. The row is made in the commit of the change, its
--           status and body come after it; a row without them tells that the change happened.
-- audit     Append-only: every change made by a person, written in the commit of the change. `hash` covers the row
--           and the hash before it.
-- settings  What a server keeps about itself.

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
