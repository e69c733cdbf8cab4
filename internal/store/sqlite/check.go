package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/store"
)

// Check implements store.Store: it asks SQLite about each file, decodes every
// chunk and record, and compares rows with what the chunks hold.
func (d *DB) Check(ctx context.Context) []error {
	d.write.Lock() // so that sums and rows are of one moment
	defer d.write.Unlock()
	segs, err := d.segments()
	if err != nil {
		return []error{err}
	}
	var found []error
	for _, g := range segs {
		found = append(found, d.checkSegment(ctx, g)...)
	}
	return found
}

func (d *DB) checkSegment(ctx context.Context, g *segment) (found []error) {
	db, err := d.acquire(g)
	if err != nil {
		return []error{err}
	}
	defer d.release(g)
	bad := func(object, format string, args ...any) {
		found = append(found, &store.CorruptError{Path: g.path, Object: object, Reason: fmt.Sprintf(format, args...)})
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil || verdict != "ok" {
		bad("file", "integrity check: %s %v", verdict, err)
		return found
	}
	var events, rows, nodes int64
	err = db.QueryRowContext(ctx, "SELECT (SELECT events FROM total), (SELECT count(*) FROM event), (SELECT count(*) FROM node)").Scan(&events, &rows, &nodes)
	if err != nil {
		return append(found, fmt.Errorf("check %s: %w", g.path, err))
	}
	if events != rows {
		bad("total", "says %d events, there are %d", events, rows)
	}
	for _, q := range []struct{ what, text string }{
		{"an event without chunk", "SELECT count(*) FROM event WHERE chunk NOT IN (SELECT id FROM chunk)"},
		{"an event without run", "SELECT count(*) FROM event WHERE run NOT IN (SELECT id FROM run)"},
		{"an event without context list", "SELECT count(*) FROM event WHERE ctx NOT IN (SELECT id FROM ctx)"},
		{"a node without chunk", "SELECT count(*) FROM node WHERE chunk NOT IN (SELECT id FROM chunk)"},
		{"a signal without event", "SELECT count(*) FROM signal s WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.t = s.t AND e.n = s.n)"},
		{"a batch without run", "SELECT count(*) FROM batch WHERE run NOT IN (SELECT id FROM run)"},
	} {
		var n int64
		if err := db.QueryRowContext(ctx, q.text).Scan(&n); err != nil {
			return append(found, fmt.Errorf("check %s: %w", g.path, err))
		}
		if n != 0 {
			bad("rows", "%s: %d times", q.what, n)
		}
	}
	if err := d.checkChunks(ctx, db, g, bad); err != nil {
		found = append(found, err)
	}
	if err := d.checkFacts(ctx, db, g); err != nil {
		found = append(found, err)
	}
	err = d.replayRecords(ctx, db, g, func(string, *event.SpoolRecord) error { return nil })
	if err != nil {
		found = append(found, err)
	}
	return found
}

// checkChunks decodes every chunk of events and compares it with its rows.
func (d *DB) checkChunks(ctx context.Context, db *sql.DB, g *segment, bad func(object, format string, args ...any)) error {
	rows, err := db.QueryContext(ctx, "SELECT t, n, kind, chunk, slot FROM event ORDER BY chunk, slot")
	if err != nil {
		return fmt.Errorf("check %s: %w", g.path, err)
	}
	defer rows.Close()
	var (
		at  int64 = -1
		evs []*event.Event
	)
	for rows.Next() {
		var t, n, kind, chunk int64
		var slot int
		if err := rows.Scan(&t, &n, &kind, &chunk, &slot); err != nil {
			return fmt.Errorf("check %s: %w", g.path, err)
		}
		object := fmt.Sprintf("chunk %d", chunk)
		if chunk != at {
			at, evs = chunk, nil
			raw, err := d.chunk(ctx, db, g, chunk)
			var corrupt *store.CorruptError
			if errors.As(err, &corrupt) {
				bad(object, "%s", corrupt.Reason)
				continue
			}
			if err != nil {
				return err
			}
			err = slots(raw, func(int) bool { return true }, func(_ int, msg []byte) error {
				e := new(event.Event)
				evs = append(evs, e)
				return event.ConsumeEvent(msg, e)
			})
			if err != nil {
				bad(object, "%v", err)
			}
		}
		if slot >= len(evs) {
			bad(object, "has no slot %d", slot)
			continue
		}
		if e := evs[slot]; e.TimeNS != t || int64(e.Kind) != kind {
			bad(object, "slot %d is another event than row %d", slot, n)
		}
	}
	return rows.Err()
}
