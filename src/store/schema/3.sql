-- Who did what to a hook. Kept when the hook is deleted, and by name: a hook that is made again goes on with the trail.
CREATE TABLE audit (
  id         INTEGER PRIMARY KEY,
  at         INTEGER NOT NULL,
  client_id  TEXT,
  action     TEXT NOT NULL,
  hook_group TEXT NOT NULL,
  hook_id    TEXT NOT NULL,
  detail     TEXT
);
CREATE INDEX audit_of_hook ON audit (hook_group, hook_id, id);

-- How often a hook's trigger token was reset. A token is derived from this and the deployment's key, and stored nowhere.
CREATE TABLE token_reset (
  incarnation INTEGER PRIMARY KEY,
  resets      INTEGER NOT NULL
);

-- The task that the fire's message was about, where that task is another fire's: the chain by which loops are found.
ALTER TABLE fire ADD COLUMN cause TEXT;
