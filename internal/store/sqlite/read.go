package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/store"
)

// refsPerQuery bounds the parameters of one statement.
const refsPerQuery = 500

// Nodes implements store.Store. The youngest segment that has a node wins.
func (d *DB) Nodes(ctx context.Context, agent string, refs []event.Ref) (map[event.Ref]*event.Process, error) {
	segs, err := d.segments()
	if err != nil {
		return nil, err
	}
	missing := map[event.Ref]bool{}
	for _, r := range refs {
		if !r.IsZero() {
			missing[r] = true
		}
	}
	out := make(map[event.Ref]*event.Process, len(missing))
	for _, g := range slices.Backward(segs) {
		if len(missing) == 0 {
			break
		}
		if err := d.nodesIn(ctx, g, agent, missing, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// nodesIn moves nodes that g has from missing to out.
func (d *DB) nodesIn(ctx context.Context, g *segment, agent string, missing map[event.Ref]bool, out map[event.Ref]*event.Process) error {
	d.mu.Lock()
	agentID, ok := g.agents[agent]
	d.mu.Unlock()
	if !ok {
		return nil
	}
	byRun := map[uint64][]any{}
	for r := range missing {
		byRun[r.Run] = append(byRun[r.Run], int64(r.Seq))
	}
	db, err := d.acquire(g)
	if err != nil {
		return err
	}
	defer d.release(g)
	for run, seqs := range byRun {
		for part := range slices.Chunk(seqs, refsPerQuery) {
			args := append([]any{agentID, int64(run)}, part...)
			rows, err := db.QueryContext(ctx, "SELECT chunk, slot FROM node WHERE agent=? AND run=? AND seq IN ("+placeholders(len(part))+")", args...)
			if err != nil {
				return fmt.Errorf("read nodes of %s: %w", g.path, err)
			}
			at, err := scanSlots(rows)
			if err != nil {
				return fmt.Errorf("read nodes of %s: %w", g.path, err)
			}
			err = d.chunks(ctx, db, g, slices.Sorted(maps.Keys(at)), func(chunk int64, raw []byte) error {
				want := at[chunk]
				return slots(raw, func(slot int) bool { return want[slot] }, func(_ int, msg []byte) error {
					p := new(event.Process)
					if err := event.ConsumeProcess(msg, p); err != nil {
						return err
					}
					out[p.ID] = p
					delete(missing, p.ID)
					return nil
				})
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func scanSlots(rows *sql.Rows) (map[int64]map[int]bool, error) {
	at := map[int64]map[int]bool{}
	for rows.Next() {
		var chunk int64
		var slot int
		if err := rows.Scan(&chunk, &slot); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		if at[chunk] == nil {
			at[chunk] = map[int]bool{}
		}
		at[chunk][slot] = true
	}
	return at, errors.Join(rows.Err(), rows.Close())
}

// Replay implements store.Store.
func (d *DB) Replay(ctx context.Context, fn func(agent string, rec *event.SpoolRecord) error) error {
	segs, err := d.segments()
	if err != nil {
		return err
	}
	for _, g := range segs {
		if err := d.replay(ctx, g, fn); err != nil {
			return err
		}
	}
	return nil
}

func (d *DB) replay(ctx context.Context, g *segment, fn func(agent string, rec *event.SpoolRecord) error) error {
	db, err := d.acquire(g)
	if err != nil {
		return err
	}
	defer d.release(g)
	if err := d.replayRecords(ctx, db, g, fn); err != nil {
		return err
	}
	if err := d.replayYoungest(ctx, db, g, fn); err != nil {
		return err
	}
	rows, err := db.QueryContext(ctx, "SELECT s.chunk, min(e.run) FROM signal s JOIN event e ON e.t = s.t AND e.n = s.n GROUP BY s.chunk ORDER BY s.chunk")
	if err != nil {
		return fmt.Errorf("replay %s: %w", g.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var chunk, run int64
		if err := rows.Scan(&chunk, &run); err != nil {
			return fmt.Errorf("replay %s: %w", g.path, err)
		}
		raw, err := d.chunk(ctx, db, g, chunk)
		if err != nil {
			return err
		}
		agent := d.agentOf(g, run)
		err = slots(raw, func(int) bool { return true }, func(_ int, msg []byte) error {
			e := new(event.Event)
			if err := event.ConsumeEvent(msg, e); err != nil {
				return &store.CorruptError{Path: g.path, Object: fmt.Sprintf("chunk %d", chunk), Reason: err.Error()}
			}
			if len(e.Signals) == 0 {
				return nil
			}
			return fn(agent, &event.SpoolRecord{Event: e})
		})
		if errors.Is(err, errDelimited) {
			return &store.CorruptError{Path: g.path, Object: fmt.Sprintf("chunk %d", chunk), Reason: err.Error()}
		}
		if err != nil {
			return err
		}
	}
	return rows.Err()
}

func (d *DB) replayRecords(ctx context.Context, db *sql.DB, g *segment, fn func(agent string, rec *event.SpoolRecord) error) error {
	rows, err := db.QueryContext(ctx, "SELECT id, run, data FROM record ORDER BY id")
	if err != nil {
		return fmt.Errorf("replay %s: %w", g.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, run int64
		var data []byte
		if err := rows.Scan(&id, &run, &data); err != nil {
			return fmt.Errorf("replay %s: %w", g.path, err)
		}
		rec := new(event.SpoolRecord)
		if err := event.ConsumeSpoolRecord(data, rec); err != nil {
			return &store.CorruptError{Path: g.path, Object: fmt.Sprintf("record %d", id), Reason: err.Error()}
		}
		if rec.FilterPlan != nil {
			continue
		}
		if err := fn(d.agentOf(g, run), rec); err != nil {
			return err
		}
	}
	return rows.Err()
}

// replayYoungest calls fn with the youngest event of each list of contexts:
// stories tell from it how long a context went on.
func (d *DB) replayYoungest(ctx context.Context, db *sql.DB, g *segment, fn func(agent string, rec *event.SpoolRecord) error) error {
	rows, err := db.QueryContext(ctx, `SELECT e.run, e.chunk, e.slot FROM ctx c JOIN event e
		ON e.ctx = c.id AND e.t = (SELECT max(t) FROM event WHERE ctx = c.id) ORDER BY e.chunk, e.slot`)
	if err != nil {
		return fmt.Errorf("replay %s: %w", g.path, err)
	}
	var refs []rowRef
	flush := func() error {
		evs, err := d.decodeEvents(ctx, db, g, refs)
		if err != nil {
			return err
		}
		for i, e := range evs {
			if err := fn(d.agentOf(g, refs[i].run), &event.SpoolRecord{Event: e}); err != nil {
				return err
			}
		}
		refs = refs[:0]
		return nil
	}
	defer rows.Close()
	for rows.Next() {
		var r rowRef
		if err := rows.Scan(&r.run, &r.chunk, &r.slot); err != nil {
			return fmt.Errorf("replay %s: %w", g.path, err)
		}
		if refs = append(refs, r); len(refs) == fetchRows {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("replay %s: %w", g.path, err)
	}
	return flush()
}
