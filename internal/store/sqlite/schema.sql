-- One segment of the event store: everything that arrived within one window.

CREATE TABLE agent (
  id   INTEGER PRIMARY KEY,
  uuid TEXT NOT NULL UNIQUE
);

-- run: the agents' runs that have records here. first and last are spool
-- numbers: they tell which batches may be here without reading them.
CREATE TABLE run (
  id        INTEGER PRIMARY KEY,
  agent     INTEGER NOT NULL,
  run       INTEGER NOT NULL,
  first     INTEGER NOT NULL,
  last      INTEGER NOT NULL,
  last_time INTEGER NOT NULL DEFAULT 0,
  canary_at INTEGER NOT NULL DEFAULT 0,
  lost      INTEGER NOT NULL DEFAULT 0,
  start     BLOB,
  UNIQUE (agent, run)
);

-- batch: what was stored, so that it is stored once. first_event and
-- last_event are stream numbers of its events, chunk_from and chunk_to its
-- chunks of events.
CREATE TABLE batch (
  run         INTEGER NOT NULL,
  id          TEXT    NOT NULL,
  first       INTEGER NOT NULL,
  last        INTEGER NOT NULL,
  first_event INTEGER NOT NULL,
  last_event  INTEGER NOT NULL,
  chunk_from  INTEGER NOT NULL,
  chunk_to    INTEGER NOT NULL,
  PRIMARY KEY (run, id)
) WITHOUT ROWID;
CREATE INDEX batch_event ON batch (run, last_event);

-- chunk: one zstd frame of length-delimited clew.v1.Event or clew.v1.Process.
CREATE TABLE chunk (
  id   INTEGER PRIMARY KEY,
  data BLOB NOT NULL
);

-- event: what searches look at. t is ns since the epoch, n the number within
-- the segment, sev 0 for no signal and 1 to 5 for info to critical.
CREATE TABLE event (
  t     INTEGER NOT NULL,
  n     INTEGER NOT NULL,
  run   INTEGER NOT NULL,
  kind  INTEGER NOT NULL,
  ctx   INTEGER NOT NULL,
  sev   INTEGER NOT NULL,
  chunk INTEGER NOT NULL,
  slot  INTEGER NOT NULL,
  PRIMARY KEY (t, n)
) WITHOUT ROWID;
CREATE INDEX event_ctx ON event (ctx, t);

-- ctx: the distinct lists of context keys, and which lists hold a key. At pos 0
-- is the correlation key.
CREATE TABLE ctx (
  id   INTEGER PRIMARY KEY,
  keys TEXT NOT NULL UNIQUE
);
CREATE TABLE ctx_key (
  key TEXT    NOT NULL,
  ctx INTEGER NOT NULL,
  pos INTEGER NOT NULL,
  PRIMARY KEY (key, ctx)
) WITHOUT ROWID;

-- signal: one row for each rule that an event matched.
CREATE TABLE rule (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);
CREATE TABLE signal (
  rule  INTEGER NOT NULL,
  t     INTEGER NOT NULL,
  n     INTEGER NOT NULL,
  chunk INTEGER NOT NULL,
  PRIMARY KEY (rule, t, n)
) WITHOUT ROWID;

-- node: where a process node is; a later one replaces an earlier one. run is
-- the run in its id, which need not be the one that sent it.
CREATE TABLE node (
  agent INTEGER NOT NULL,
  run   INTEGER NOT NULL,
  seq   INTEGER NOT NULL,
  chunk INTEGER NOT NULL,
  slot  INTEGER NOT NULL,
  PRIMARY KEY (agent, run, seq)
) WITHOUT ROWID;

-- record: all that is rare, as the clew.v1.SpoolRecord it came as.
CREATE TABLE record (
  id   INTEGER PRIMARY KEY,
  run  INTEGER NOT NULL,
  data BLOB NOT NULL
);

-- file_facts: what was found out about files of events, as clew.v1.FileFacts.
-- seq is the event's number in its run; the event may be in an earlier segment.
-- Segments of earlier versions get the table when they are written to again.
CREATE TABLE IF NOT EXISTS file_facts (
  run   INTEGER NOT NULL,
  seq   INTEGER NOT NULL,
  field TEXT    NOT NULL,
  data  BLOB    NOT NULL,
  PRIMARY KEY (run, seq, field)
) WITHOUT ROWID;

-- total: one row, kept current by every batch.
CREATE TABLE total (
  events     INTEGER NOT NULL,
  nodes      INTEGER NOT NULL,
  first_time INTEGER NOT NULL,
  last_time  INTEGER NOT NULL,
  created_at INTEGER NOT NULL
);
INSERT INTO total VALUES (0, 0, 0, 0, 0);
