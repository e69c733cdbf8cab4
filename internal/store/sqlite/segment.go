package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"github.com/clewsec/clew/internal/store"
)

//go:embed schema.sql
var schema string

// formatVersion is the version of a segment's layout, kept in user_version.
const formatVersion = 1

// factsTable is the statement that makes the table file_facts, if it is not
// there: the first version of clew had none.
func factsTable() string {
	from := strings.Index(schema, "CREATE TABLE IF NOT EXISTS file_facts")
	return schema[from : from+strings.Index(schema[from:], ";")]
}

// applicationID marks a file as one of ours ("clwS").
const applicationID = 0x636c7753

// A segment is one file of the store and what is known of it without opening
// it. The fields below mu of the store.
type segment struct {
	id   int64
	path string

	events    int64
	nodes     int64
	first     int64 // time of the oldest event, ns
	last      int64
	createdAt int64
	runs      map[runKey]*segmentRun
	agents    map[string]int64
	facts     bool // it has the table file_facts

	db      *sql.DB // readers; nil while closed
	readers int     // queries that use db now
	used    int64   // tick of the last use
}

type runKey struct {
	agent string
	run   uint64
}

type segmentRun struct {
	id          int64
	first, last uint64
	lastTime    int64
	canaryAt    int64
	lost        uint64
	start       []byte
}

// dsn names a database file with what every connection to it sets.
func dsn(path string, readOnly bool) string {
	v := url.Values{}
	v.Add("_pragma", "busy_timeout(10000)")
	v.Add("_pragma", "cache_size(-2048)")
	v.Add("_pragma", "temp_store(memory)")
	if readOnly {
		v.Add("_pragma", "query_only(1)")
	} else {
		v.Add("_pragma", "journal_mode(WAL)")
		v.Add("_pragma", "synchronous(FULL)")
		v.Add("_txlock", "immediate")
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: v.Encode()}).String()
}

// createSegment makes a segment under a temporary name and renames it when it
// is whole.
func createSegment(ctx context.Context, path string, now int64) error {
	tmp := filepath.Join(filepath.Dir(path), ".tmp-"+filepath.Base(path))
	db, err := sql.Open("sqlite", dsn(tmp, false))
	if err != nil {
		return fmt.Errorf("create segment: %w", err)
	}
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, fmt.Sprintf("PRAGMA page_size=8192; PRAGMA application_id=%d; BEGIN; %s; UPDATE total SET created_at=%d; PRAGMA user_version=%d; COMMIT; PRAGMA wal_checkpoint(TRUNCATE)",
		applicationID, schema, now, formatVersion))
	err = errors.Join(err, db.Close())
	if err != nil {
		return fmt.Errorf("create segment %s: %w", path, err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(tmp + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("create segment: %w", err)
		}
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("create segment: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// load reads the segment's version and sums.
func (g *segment) load(ctx context.Context, db *sql.DB) error {
	var version, app int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("open segment %s: %w", g.path, err)
	}
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&app); err != nil {
		return fmt.Errorf("open segment %s: %w", g.path, err)
	}
	if app != applicationID {
		return &store.CorruptError{Path: g.path, Object: "header", Reason: "is not a segment of clew"}
	}
	if version > formatVersion {
		return &store.VersionError{Path: g.path, Have: version, Max: formatVersion}
	}
	err := db.QueryRowContext(ctx, "SELECT events, nodes, first_time, last_time, created_at FROM total").
		Scan(&g.events, &g.nodes, &g.first, &g.last, &g.createdAt)
	if err != nil {
		return fmt.Errorf("open segment %s: %w", g.path, err)
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE type='table' AND name='file_facts'").Scan(&g.facts); err != nil {
		return fmt.Errorf("open segment %s: %w", g.path, err)
	}
	g.agents = map[string]int64{}
	g.runs = map[runKey]*segmentRun{}
	rows, err := db.QueryContext(ctx, `SELECT a.id, a.uuid, r.id, r.run, r.first, r.last, r.last_time, r.canary_at, r.lost, r.start
		FROM agent a JOIN run r ON r.agent = a.id`)
	if err != nil {
		return fmt.Errorf("open segment %s: %w", g.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			agentID                int64
			agent                  string
			run, first, last, lost int64
			r                      segmentRun
		)
		if err := rows.Scan(&agentID, &agent, &r.id, &run, &first, &last, &r.lastTime, &r.canaryAt, &lost, &r.start); err != nil {
			return fmt.Errorf("open segment %s: %w", g.path, err)
		}
		r.first, r.last, r.lost = uint64(first), uint64(last), uint64(lost)
		g.agents[agent] = agentID
		g.runs[runKey{agent, uint64(run)}] = &r
	}
	return rows.Err()
}

// size is what the segment takes on disk.
func (g *segment) size() int64 {
	var n int64
	for _, suffix := range []string{"", "-wal"} {
		if fi, err := os.Stat(g.path + suffix); err == nil {
			n += fi.Size()
		}
	}
	return n
}

// remove deletes the segment's files; the database first, because a log
// without its database is nothing.
func (g *segment) remove() error {
	err := os.Remove(g.path)
	for _, suffix := range []string{"-wal", "-shm"} {
		if e := os.Remove(g.path + suffix); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// placeholders is "?,?,…" n times.
func placeholders(n int) string {
	if n == 0 {
		return "NULL"
	}
	return strings.Repeat("?,", n-1) + "?"
}
