package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/store"
)

// FileFacts implements store.Store.
func (d *DB) FileFacts(ctx context.Context, agent string, refs []event.Ref) (map[event.Ref][]*event.FileFacts, error) {
	segs, err := d.segments()
	if err != nil {
		return nil, err
	}
	byRun := map[uint64][]any{}
	for _, r := range refs {
		byRun[r.Run] = append(byRun[r.Run], int64(r.Seq))
	}
	out := map[event.Ref][]*event.FileFacts{}
	for _, g := range segs {
		for run, seqs := range byRun {
			d.mu.Lock()
			r := g.runs[runKey{agent, run}]
			has := g.facts
			d.mu.Unlock()
			if r == nil || !has {
				continue
			}
			if err := d.factsIn(ctx, g, r.id, run, seqs, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (d *DB) factsIn(ctx context.Context, g *segment, id int64, run uint64, seqs []any, out map[event.Ref][]*event.FileFacts) error {
	db, err := d.acquire(g)
	if err != nil {
		return err
	}
	defer d.release(g)
	for part := range slices.Chunk(seqs, refsPerQuery) {
		rows, err := db.QueryContext(ctx, "SELECT seq, data FROM file_facts WHERE run=? AND seq IN ("+placeholders(len(part))+") ORDER BY seq, field", append([]any{id}, part...)...)
		if err != nil {
			return fmt.Errorf("read facts of %s: %w", g.path, err)
		}
		err = eachFacts(g, rows, func(seq int64, f *event.FileFacts) {
			ref := event.Ref{Run: run, Seq: uint64(seq)}
			f.Event = ref
			// A later segment has the younger ones.
			i := slices.IndexFunc(out[ref], func(x *event.FileFacts) bool { return x.Field == f.Field })
			if i >= 0 {
				out[ref][i] = f
				return
			}
			out[ref] = append(out[ref], f)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func eachFacts(g *segment, rows *sql.Rows, fn func(seq int64, f *event.FileFacts)) error {
	for rows.Next() {
		var seq int64
		var data []byte
		if err := rows.Scan(&seq, &data); err != nil {
			return errors.Join(fmt.Errorf("read facts of %s: %w", g.path, err), rows.Close())
		}
		f := new(event.FileFacts)
		if err := event.ConsumeFileFacts(data, f); err != nil {
			return errors.Join(&store.CorruptError{Path: g.path, Object: fmt.Sprintf("facts of event %d", seq), Reason: err.Error()}, rows.Close())
		}
		fn(seq, f)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("read facts of %s: %w", g.path, err)
	}
	return nil
}

// checkFacts reads all facts of a segment.
func (d *DB) checkFacts(ctx context.Context, db *sql.DB, g *segment) error {
	d.mu.Lock()
	has := g.facts
	d.mu.Unlock()
	if !has {
		return nil
	}
	rows, err := db.QueryContext(ctx, "SELECT seq, data FROM file_facts")
	if err != nil {
		return fmt.Errorf("read facts of %s: %w", g.path, err)
	}
	return eachFacts(g, rows, func(int64, *event.FileFacts) {})
}
