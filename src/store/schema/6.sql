-- Equal messages without an id are looked for by the connection that delivered them, and near its end.
DROP INDEX fire_digest;
CREATE INDEX fire_digest ON fire (digest, incarnation, epoch, fired_at) WHERE digest IS NOT NULL;
CREATE INDEX fire_matched ON fire (digest, incarnation, matched_epoch, matched_at) WHERE matched_epoch IS NOT NULL;
