-- Deleted hooks whose fires and decisions are still to be removed, in small steps.
CREATE TABLE buried (
  incarnation INTEGER PRIMARY KEY
);
