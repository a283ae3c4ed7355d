-- What owners are to be told: failures by address, hook and kind, until a mail has taken them up.
CREATE TABLE notice (
  id         INTEGER PRIMARY KEY,
  address    TEXT NOT NULL,
  hook_group TEXT NOT NULL,
  hook_id    TEXT NOT NULL,
  kind       TEXT NOT NULL,
  failures   INTEGER NOT NULL,
  first_at   INTEGER NOT NULL,
  last_at    INTEGER NOT NULL,
  -- JSON: the first of these failures.
  example    TEXT NOT NULL
);
CREATE UNIQUE INDEX notice_of ON notice (address, hook_group, hook_id, kind);

-- One row per address: when it was last written to, and the mail that is on its way, if any.
CREATE TABLE mail (
  address     TEXT PRIMARY KEY,
  sent_at     INTEGER,
  mail_id     TEXT,
  subject     TEXT,
  body        TEXT,
  composed_at INTEGER,
  attempts    INTEGER NOT NULL DEFAULT 0,
  next_at     INTEGER,
  error       TEXT
) WITHOUT ROWID;
CREATE INDEX mail_due ON mail (next_at) WHERE mail_id IS NOT NULL;

-- Refused bindings whose owners have been told; they are told again only after the binding has stood.
CREATE TABLE refused_binding (
  incarnation INTEGER NOT NULL,
  exchange    TEXT NOT NULL,
  pattern     TEXT NOT NULL,
  PRIMARY KEY (incarnation, exchange, pattern)
) WITHOUT ROWID;

-- Dead fires in the order in which they died: what the notices are made from.
CREATE INDEX fire_died ON fire (ended_seq) WHERE state = 2;
-- Nobody is told of what failed before there were notices.
INSERT INTO meta (key, value) SELECT 'noted_fires', CAST(coalesce(max(ended_seq), 0) AS TEXT) FROM fire;

-- What became of the task itself, as the queue service tells on pulse: completed, failed, exception.
ALTER TABLE fire ADD COLUMN task_state TEXT;
