-- Which fires are of a task: the row ids behind each hash of a task id. A fire is entered some thousands later than it is recorded,
-- with others and in the order of the hashes; see by_task.rs.
DROP INDEX fire_identity;
CREATE TABLE fire_by_task (
  hash INTEGER NOT NULL,
  fire INTEGER NOT NULL,
  PRIMARY KEY (hash, fire)
) WITHOUT ROWID;
-- All fires with row ids up to this one are entered.
INSERT INTO meta (key, value) VALUES ('fires_by_task', '0');
