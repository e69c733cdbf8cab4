package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/clewsec/clew/internal/event"
)

// Expire implements store.Store: it removes the segments in which everything
// arrived before the time. The youngest segment always stays. What later
// segments lean on goes to the next one first: the start of runs that go on,
// contexts that are still referred to, and the nodes of processes that were
// not seen to end.
func (d *DB) Expire(ctx context.Context, before int64) (gone int64, err error) {
	d.write.Lock()
	defer d.write.Unlock()
	for {
		segs, err := d.segments()
		if err != nil {
			return gone, err
		}
		// A segment's window ends where the next one begins.
		if len(segs) < 2 || segs[1].createdAt > before {
			return gone, nil
		}
		g := segs[0]
		d.mu.Lock()
		busy := g.readers > 0
		d.mu.Unlock()
		if busy {
			return gone, nil // the next call gets it
		}
		if err := d.carry(ctx, g, segs[1:]); err != nil {
			return gone, fmt.Errorf("expire %s: %w", g.path, err)
		}
		d.mu.Lock()
		if g.readers > 0 {
			d.mu.Unlock()
			return gone, nil
		}
		if g.db != nil {
			_ = g.db.Close() // a reader: there is nothing to lose
			g.db = nil
		}
		d.segs = slices.DeleteFunc(d.segs, func(s *segment) bool { return s == g })
		d.mu.Unlock()
		gone += g.events
		if err := g.remove(); err != nil {
			return gone, fmt.Errorf("expire %s: %w", g.path, err)
		}
	}
}

// carry copies to the first of later what later segments lean on. It does so
// in one transaction, and copying twice does no harm.
func (d *DB) carry(ctx context.Context, g *segment, later []*segment) (err error) {
	db, err := d.acquire(g)
	if err != nil {
		return err
	}
	defer d.release(g)
	recs, err := d.leanedRecords(ctx, db, g, later)
	if err != nil {
		return err
	}
	nodes, err := d.livingNodes(ctx, db, g, later)
	if err != nil {
		return err
	}
	to := later[0]
	w := d.w
	if w == nil || w.seg != to {
		if w, err = openWriter(ctx, to); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
	}
	return d.putCarried(ctx, w, recs, nodes)
}

// A carried is a record or node and the run or agent it belongs to.
type carriedRecord struct {
	key runKey
	rec *event.SpoolRecord
}

// leanedRecords are the starts of runs that later segments know and the filter
// plans that were in force in them last, the contexts whose keys they know, and
// the contexts that those were opened in.
func (d *DB) leanedRecords(ctx context.Context, db *sql.DB, g *segment, later []*segment) ([]carriedRecord, error) {
	d.mu.Lock()
	runs := map[int64]runKey{}
	goesOn := map[runKey]bool{}
	for k, r := range g.runs {
		runs[r.id] = k
		for _, l := range later {
			if l.runs[k] != nil {
				goesOn[k] = true
			}
		}
	}
	d.mu.Unlock()
	var out []carriedRecord
	contexts := map[string][]carriedRecord{}
	plans := map[runKey]*event.SpoolRecord{}
	rows, err := db.QueryContext(ctx, "SELECT run, data FROM record ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var run int64
		var data []byte
		if err := rows.Scan(&run, &data); err != nil {
			return nil, err
		}
		rec := new(event.SpoolRecord)
		if err := event.ConsumeSpoolRecord(data, rec); err != nil {
			return nil, err
		}
		key := runs[run]
		switch {
		case rec.RunStart != nil && goesOn[key]:
			out = append(out, carriedRecord{key, rec})
		case rec.FilterPlan != nil && goesOn[key]:
			if p := plans[key]; p == nil || p.FilterPlan.At <= rec.FilterPlan.At {
				plans[key] = rec
			}
		case rec.Context != nil:
			contexts[rec.Context.Key] = append(contexts[rec.Context.Key], carriedRecord{key, rec})
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for key, rec := range plans {
		out = append(out, carriedRecord{key, rec})
	}
	for name := range contexts {
		known, err := d.contextKnown(ctx, name, later)
		if err != nil {
			return nil, err
		}
		for known && len(contexts[name]) > 0 {
			recs := contexts[name]
			contexts[name] = nil
			out = append(out, recs...)
			name = recs[0].rec.Context.ParentKey
		}
	}
	return out, nil
}

// contextKnown tells whether an event of one of the segments has the key.
func (d *DB) contextKnown(ctx context.Context, key string, segs []*segment) (bool, error) {
	for _, g := range segs {
		db, err := d.acquire(g)
		if err != nil {
			return false, err
		}
		var one int
		err = db.QueryRowContext(ctx, "SELECT 1 FROM ctx_key WHERE key=? LIMIT 1", key).Scan(&one)
		d.release(g)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return false, err
		}
	}
	return false, nil
}

type processKey struct {
	agent string
	pid   uint32
	start uint64
}

// livingNodes are the nodes of processes without an exit in any segment, and
// their ancestors.
func (d *DB) livingNodes(ctx context.Context, db *sql.DB, g *segment, later []*segment) (map[string][]*event.Process, error) {
	d.mu.Lock()
	agents := map[int64]string{}
	for name, id := range g.agents {
		agents[id] = name
	}
	d.mu.Unlock()
	living := map[processKey][]event.Ref{}
	parents := map[nodeID]event.Ref{}
	rows, err := db.QueryContext(ctx, "SELECT agent, chunk, slot FROM node ORDER BY chunk, slot")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	at, slotsOf := int64(-1), [][]byte(nil)
	for rows.Next() {
		var agent, chunk int64
		var slot int
		if err := rows.Scan(&agent, &chunk, &slot); err != nil {
			return nil, err
		}
		if chunk != at {
			raw, err := d.chunk(ctx, db, g, chunk)
			if err != nil {
				return nil, err
			}
			at, slotsOf = chunk, nil
			err = slots(raw, func(int) bool { return true }, func(_ int, msg []byte) error {
				slotsOf = append(slotsOf, msg)
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		p := new(event.Process)
		if slot >= len(slotsOf) || event.ConsumeProcess(slotsOf[slot], p) != nil {
			continue // what cannot be read is not worth keeping
		}
		k := processKey{agents[agent], p.PID, p.StartNS}
		living[k] = append(living[k], p.ID)
		parents[nodeID{k.agent, p.ID}] = p.ParentID
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, s := range append([]*segment{g}, later...) {
		if err := d.eachExit(ctx, s, func(agent string, e *event.Event) { delete(living, processKey{agent, e.PID, e.StartNS}) }); err != nil {
			return nil, err
		}
	}
	wanted := map[string][]event.Ref{}
	seen := map[nodeID]bool{}
	for k, refs := range living {
		for _, ref := range refs {
			id := nodeID{k.agent, ref}
			for !seen[id] {
				parent, here := parents[id]
				if !here {
					break
				}
				seen[id] = true
				wanted[k.agent] = append(wanted[k.agent], id.ref)
				id.ref = parent
			}
		}
	}
	out := map[string][]*event.Process{}
	for agent, refs := range wanted {
		// A later segment may have a younger version of a node: then it has it.
		missing := map[event.Ref]bool{}
		for _, r := range refs {
			missing[r] = true
		}
		for _, s := range later {
			if err := d.nodesIn(ctx, s, agent, missing, map[event.Ref]*event.Process{}); err != nil {
				return nil, err
			}
		}
		found := map[event.Ref]*event.Process{}
		if err := d.nodesIn(ctx, g, agent, missing, found); err != nil {
			return nil, err
		}
		for _, p := range found {
			out[agent] = append(out[agent], p)
		}
		slices.SortFunc(out[agent], func(a, b *event.Process) int {
			if a.ID.Run != b.ID.Run {
				if a.ID.Run < b.ID.Run {
					return -1
				}
				return 1
			}
			if a.ID.Seq < b.ID.Seq {
				return -1
			}
			return 1
		})
	}
	return out, nil
}

type nodeID struct {
	agent string
	ref   event.Ref
}

// eachExit calls fn for every exit event of a segment.
func (d *DB) eachExit(ctx context.Context, g *segment, fn func(agent string, e *event.Event)) error {
	db, err := d.acquire(g)
	if err != nil {
		return err
	}
	defer d.release(g)
	after := place{t: -1 << 63, n: -1}
	for {
		rows, err := db.QueryContext(ctx, "SELECT t, n, run, chunk, slot FROM event WHERE kind=? AND (t, n) > (?, ?) ORDER BY t, n LIMIT ?",
			int64(event.KindExit), after.t, after.n, fetchRows)
		if err != nil {
			return err
		}
		var refs []rowRef
		for rows.Next() {
			var r rowRef
			if err := rows.Scan(&r.t, &r.n, &r.run, &r.chunk, &r.slot); err != nil {
				return errors.Join(err, rows.Close())
			}
			refs = append(refs, r)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		evs, err := d.decodeEvents(ctx, db, g, refs)
		if err != nil {
			return err
		}
		for i, e := range evs {
			fn(d.agentOf(g, refs[i].run), e)
		}
		if len(refs) < fetchRows {
			return nil
		}
		last := refs[len(refs)-1]
		after = place{t: last.t, n: last.n}
	}
}

// putCarried writes what is carried with the writer of the segment it goes to.
func (d *DB) putCarried(ctx context.Context, w *writer, recs []carriedRecord, nodes map[string][]*event.Process) (err error) {
	if len(recs) == 0 && len(nodes) == 0 {
		return nil
	}
	g := w.seg
	if _, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	p := &pending{nextChunk: w.nextChunk, events: g.events, nodes: g.nodes, first: g.first, last: g.last}
	fresh := &segment{path: g.path}
	err = func() error {
		for _, c := range recs {
			agentID, err := carriedAgent(ctx, w, c.key.agent)
			if err != nil {
				return err
			}
			var start []byte
			if c.rec.RunStart != nil {
				start = event.AppendRunStart(nil, c.rec.RunStart)
			}
			// The range is empty: no batch of the run is here because of this.
			_, err = w.conn.ExecContext(ctx, `INSERT INTO run (agent, run, first, last, start) VALUES (?, ?, 0, 0, ?)
				ON CONFLICT (agent, run) DO UPDATE SET start = coalesce(start, excluded.start)`, agentID, int64(c.key.run), start)
			if err != nil {
				return err
			}
			_, err = w.conn.ExecContext(ctx, "INSERT INTO record (run, data) SELECT id, ? FROM run WHERE agent=? AND run=?",
				event.AppendSpoolRecord(nil, c.rec), agentID, int64(c.key.run))
			if err != nil {
				return err
			}
		}
		for agent, list := range nodes {
			if p.agentID, err = carriedAgent(ctx, w, agent); err != nil {
				return err
			}
			if err := w.storeNodes(ctx, d, list, p); err != nil {
				return err
			}
		}
		if _, err := w.conn.ExecContext(ctx, "UPDATE total SET nodes=?", p.nodes); err != nil {
			return err
		}
		_, err := w.conn.ExecContext(ctx, "COMMIT")
		return err
	}()
	if err != nil {
		_, _ = w.conn.ExecContext(ctx, "ROLLBACK") // it is rolled back in any case when the connection is closed
		return err
	}
	w.nextChunk = p.nextChunk
	if err := d.loadSegment(ctx, fresh); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	g.nodes, g.runs, g.agents = fresh.nodes, fresh.runs, fresh.agents
	return nil
}

func carriedAgent(ctx context.Context, w *writer, uuid string) (id int64, err error) {
	if _, err := w.conn.ExecContext(ctx, "INSERT OR IGNORE INTO agent (uuid) VALUES (?)", uuid); err != nil {
		return 0, err
	}
	err = w.conn.QueryRowContext(ctx, "SELECT id FROM agent WHERE uuid=?", uuid).Scan(&id)
	return id, err
}
