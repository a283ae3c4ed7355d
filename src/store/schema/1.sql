-- Times are milliseconds since the Unix epoch, UTC.

-- A hook. Deleted and made again it is a new row: its fires and task ids never meet those of the former.
-- A deleted row (a tombstone) stays until the broker has confirmed that its queue is gone.
CREATE TABLE hook (
  incarnation INTEGER PRIMARY KEY AUTOINCREMENT,
  hook_group  TEXT NOT NULL,
  hook_id     TEXT NOT NULL,
  version     INTEGER NOT NULL,
  document    TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL,
  deleted_at  INTEGER
);
CREATE UNIQUE INDEX hook_name ON hook (hook_group, hook_id) WHERE deleted_at IS NULL;
CREATE INDEX hook_tombstone ON hook (hook_group, hook_id) WHERE deleted_at IS NOT NULL;

-- Each version that a fire may have been rendered with.
CREATE TABLE hook_version (
  incarnation INTEGER NOT NULL,
  version     INTEGER NOT NULL,
  document    TEXT NOT NULL,
  saved_at    INTEGER NOT NULL,
  PRIMARY KEY (incarnation, version)
) WITHOUT ROWID;

-- Bindings that stood once, are no longer in the document, and are still to be removed at the broker.
CREATE TABLE stale_binding (
  incarnation INTEGER NOT NULL,
  exchange    TEXT NOT NULL,
  pattern     TEXT NOT NULL,
  PRIMARY KEY (incarnation, exchange, pattern)
) WITHOUT ROWID;

-- One row per (hook, message identity, occurrence), which the task id is made from. Small, because it is updated
-- once; what is large stands in `message`.
CREATE TABLE fire (
  id            INTEGER PRIMARY KEY,
  incarnation   INTEGER NOT NULL,
  task_id       TEXT NOT NULL,
  occurrence    INTEGER NOT NULL,
  version       INTEGER NOT NULL,
  fired_by      TEXT NOT NULL,
  exchange      TEXT NOT NULL,
  routing_key   TEXT NOT NULL,
  message_id    TEXT,
  fired_at      INTEGER NOT NULL,
  epoch         INTEGER NOT NULL,
  matched_epoch INTEGER,
  matched_at    INTEGER,
  digest        BLOB,
  state         INTEGER NOT NULL,
  attempts      INTEGER NOT NULL DEFAULT 0,
  ended_at      INTEGER,
  ended_seq     INTEGER,
  error         TEXT
);
CREATE UNIQUE INDEX fire_identity ON fire (task_id, incarnation);
CREATE INDEX fire_of_hook ON fire (incarnation, id);
CREATE INDEX fire_pending ON fire (id) WHERE state = 0;
CREATE INDEX fire_dead ON fire (id) WHERE state = 2;
CREATE INDEX fire_ended ON fire (ended_seq) WHERE ended_seq IS NOT NULL;
CREATE INDEX fire_digest ON fire (digest) WHERE digest IS NOT NULL;

-- The message of a fire and the task that was rendered from it.
CREATE TABLE message (
  fire       INTEGER PRIMARY KEY,
  properties TEXT NOT NULL,
  body       BLOB NOT NULL,
  task       BLOB,
  rendered_at INTEGER NOT NULL
);

-- Earlier renderings of a task that went stale before it could be submitted: an attempt with one of them may have
-- succeeded unseen, so a conflict is settled against all of them.
CREATE TABLE earlier_task (
  id   INTEGER PRIMARY KEY,
  fire INTEGER NOT NULL,
  task BLOB NOT NULL
);
CREATE INDEX earlier_task_of_fire ON earlier_task (fire);

-- What became of messages that did not fire. Bounded per hook.
CREATE TABLE decision (
  id          INTEGER PRIMARY KEY,
  incarnation INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  exchange    TEXT NOT NULL,
  routing_key TEXT NOT NULL,
  message_id  TEXT,
  outcome     TEXT NOT NULL,
  reason      TEXT NOT NULL,
  detail      TEXT
);
CREATE INDEX decision_of_hook ON decision (incarnation, id);

-- Broker connections: a redelivered message without an id is matched with fires of an earlier one.
CREATE TABLE epoch (
  id        INTEGER PRIMARY KEY,
  started   INTEGER NOT NULL,
  last_seen INTEGER NOT NULL
);

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
