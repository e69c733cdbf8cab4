-- +goose Up
CREATE TABLE triage (
  story_id TEXT   NOT NULL,
  at       BIGINT NOT NULL,
  actor    TEXT   NOT NULL,
  state    TEXT   NOT NULL,
  verdict  TEXT   NOT NULL,
  assignee TEXT   NOT NULL,
  comment  TEXT   NOT NULL,
  PRIMARY KEY (story_id, at, actor)
);

CREATE TABLE login (
  hash    TEXT   NOT NULL PRIMARY KEY,
  actor   TEXT   NOT NULL,
  role    TEXT   NOT NULL,
  expires BIGINT NOT NULL
);

CREATE TABLE session (
  hash    TEXT   NOT NULL PRIMARY KEY,
  actor   TEXT   NOT NULL,
  role    TEXT   NOT NULL,
  expires BIGINT NOT NULL
);

CREATE TABLE token (
  hash    TEXT   NOT NULL PRIMARY KEY,
  name    TEXT   NOT NULL UNIQUE,
  role    TEXT   NOT NULL,
  made_by TEXT   NOT NULL,
  made_at BIGINT NOT NULL
);

CREATE TABLE agent (
  id        TEXT   NOT NULL PRIMARY KEY,
  host      TEXT   NOT NULL,
  kernel    TEXT   NOT NULL,
  version   TEXT   NOT NULL,
  mode      TEXT   NOT NULL,
  reason    TEXT   NOT NULL,
  run       TEXT   NOT NULL,
  recording INTEGER NOT NULL,
  last_seen BIGINT NOT NULL
);

CREATE TABLE audit (
  at     BIGINT NOT NULL,
  actor  TEXT   NOT NULL,
  action TEXT   NOT NULL,
  object TEXT   NOT NULL
);
CREATE INDEX audit_at ON audit (at);
