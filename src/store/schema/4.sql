-- The next scheduled moment of each hook that has a schedule. Kept in line with the hooks by the scheduler.
CREATE TABLE schedule (
  incarnation INTEGER PRIMARY KEY,
  -- Of the hook, as last taken over.
  version     INTEGER NOT NULL,
  -- The version that brought these expressions: a plan made for others is not carried out.
  since       INTEGER NOT NULL,
  -- A JSON list of cron expressions.
  expressions TEXT NOT NULL,
  catch_up    TEXT NOT NULL,
  paused      INTEGER NOT NULL,
  -- The oldest moment that was not handled yet; NULL: there is none any more.
  next_at     INTEGER,
  -- The newest moment whose trigger the broker confirmed.
  last_at     INTEGER
);
CREATE INDEX schedule_due ON schedule (next_at, incarnation) WHERE paused = 0 AND next_at IS NOT NULL;

CREATE TRIGGER schedule_of_deleted AFTER UPDATE OF deleted_at ON hook WHEN NEW.deleted_at IS NOT NULL
BEGIN
  DELETE FROM schedule WHERE incarnation = NEW.incarnation;
END;

-- Hooks from before this table are not scheduled for the time before it.
INSERT INTO meta (key, value) VALUES ('schedules_since', CAST(unixepoch('subsec') * 1000 AS INTEGER));
