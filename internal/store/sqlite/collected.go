package sqlite

import (
	"context"
	"fmt"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/store"
)

// Collected implements store.Store.
func (d *DB) Collected(ctx context.Context, fn func(agent string, run uint64, rec *event.SpoolRecord) error) error {
	segs, err := d.segments()
	if err != nil {
		return err
	}
	for _, g := range segs {
		if err := d.collected(ctx, g, fn); err != nil {
			return err
		}
	}
	return nil
}

func (d *DB) collected(ctx context.Context, g *segment, fn func(agent string, run uint64, rec *event.SpoolRecord) error) error {
	db, err := d.acquire(g)
	if err != nil {
		return err
	}
	defer d.release(g)
	d.mu.Lock()
	runs := make(map[int64]runKey, len(g.runs))
	for k, r := range g.runs {
		runs[r.id] = k
	}
	d.mu.Unlock()
	rows, err := db.QueryContext(ctx, "SELECT id, run, data FROM record ORDER BY id")
	if err != nil {
		return fmt.Errorf("read records of %s: %w", g.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, run int64
		var data []byte
		if err := rows.Scan(&id, &run, &data); err != nil {
			return fmt.Errorf("read records of %s: %w", g.path, err)
		}
		rec := new(event.SpoolRecord)
		if err := event.ConsumeSpoolRecord(data, rec); err != nil {
			return &store.CorruptError{Path: g.path, Object: fmt.Sprintf("record %d", id), Reason: err.Error()}
		}
		// A batch that was stored since then has a run of its own perhaps.
		k, known := runs[run]
		if !known || rec.FilterPlan == nil && rec.Lost == nil {
			continue
		}
		if err := fn(k.agent, k.run, rec); err != nil {
			return err
		}
	}
	return rows.Err()
}
