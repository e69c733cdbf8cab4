package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/store"
)

// fetchRows is how many rows a search takes from a segment at once. Between
// two fetches no transaction is open, so that a long search does not keep the
// log from being folded into the file.
const fetchRows = 1024

// A place is where an event stands in the order of all answers.
type place struct {
	t, seg, n int64
}

func (a place) compare(b place) int {
	return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.seg, b.seg), cmp.Compare(a.n, b.n))
}

func (a place) String() string { return fmt.Sprintf("%d.%d.%d", a.t, a.seg, a.n) }

func parsePlace(s string) (place, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return place{}, fmt.Errorf("cursor %.64q: %w", s, store.ErrCursor)
	}
	var v [3]int64
	for i, p := range parts {
		n, err := strconv.ParseInt(p, 10, 64)
		if err != nil {
			return place{}, fmt.Errorf("cursor %.64q: %w", s, store.ErrCursor)
		}
		v[i] = n
	}
	return place{v[0], v[1], v[2]}, nil
}

// Search implements store.Store.
func (d *DB) Search(ctx context.Context, q store.Query) (store.Page, error) {
	segs, err := d.segments()
	if err != nil {
		return store.Page{}, err
	}
	if len(q.IDs) > 0 {
		return d.byID(ctx, segs, q.IDs)
	}
	limit := q.Limit
	if limit <= 0 {
		limit = store.DefaultLimit
	}
	limit = min(limit, store.MaxLimit)
	after := place{t: -1 << 63, seg: -1, n: -1}
	if q.After != "" {
		if after, err = parsePlace(q.After); err != nil {
			return store.Page{}, err
		}
	}
	s := &search{d: d, q: &q, nodeText: map[nodeKey]bool{}}
	// Segments in the order of their first event: later ones are opened only
	// when the answer reaches their time.
	slices.SortFunc(segs, func(a, b *segment) int { return cmp.Compare(d.span(a).first, d.span(b).first) })
	var its []*iter
	var page store.Page
	var last place
	next := 0
	for {
		// Open every segment that may hold something before the best head.
		for next < len(segs) {
			g := segs[next]
			sp := d.span(g)
			if best := bestOf(its); best != nil && best.head().at.t < sp.first {
				break
			}
			next++
			if sp.events == 0 || sp.last < q.From || (q.To != 0 && sp.first >= q.To) || sp.last < after.t {
				continue
			}
			it := &iter{s: s, seg: g, after: after}
			if err := it.fill(ctx); err != nil {
				return store.Page{}, err
			}
			if len(it.rows) > 0 {
				its = append(its, it)
			}
		}
		best := bestOf(its)
		if best == nil {
			break
		}
		if len(page.Items) == limit {
			page.Next = last.String()
			break
		}
		h := best.head()
		page.Items = append(page.Items, store.Found{Agent: h.agent, Event: h.ev})
		last = h.at
		best.rows = best.rows[1:]
		if len(best.rows) == 0 {
			if err := best.fill(ctx); err != nil {
				return store.Page{}, err
			}
			if len(best.rows) == 0 {
				its = slices.DeleteFunc(its, func(i *iter) bool { return i == best })
			}
		}
	}
	if q.Count {
		if page.Total, page.Exact, err = s.count(ctx, segs, &page); err != nil {
			return store.Page{}, err
		}
	}
	return page, nil
}

type span struct{ first, last, events int64 }

func (d *DB) span(g *segment) span {
	d.mu.Lock()
	defer d.mu.Unlock()
	return span{g.first, g.last, g.events}
}

// agentName finds the agent of a run's row.
func (d *DB) agentOf(g *segment, run int64) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, r := range g.runs {
		if r.id == run {
			return k.agent
		}
	}
	return ""
}

func bestOf(its []*iter) *iter {
	var best *iter
	for _, it := range its {
		if best == nil || it.head().at.compare(best.head().at) < 0 {
			best = it
		}
	}
	return best
}

type nodeKey struct {
	agent string
	ref   event.Ref
}

// A search is what the iterators of one query share.
type search struct {
	d        *DB
	q        *store.Query
	nodeText map[nodeKey]bool // whether a node holds the text
}

// where builds the condition on event e (and signal s when a rule is asked
// for) and its arguments. Events before a time are left out by another
// condition: SQLite begins to read at one of two lower bounds, and that must
// not be the start of the answer for each page of it.
func (s *search) where(after int64) (from, cond string, args []any) {
	q := s.q
	from = "event e"
	var c []string
	if q.Rule != "" {
		from = "signal s JOIN event e ON e.t = s.t AND e.n = s.n"
		c = append(c, "s.rule = (SELECT id FROM rule WHERE name = ?)")
		args = append(args, q.Rule)
	}
	if q.From != 0 && q.From > after {
		c = append(c, "e.t >= ?")
		args = append(args, q.From)
	}
	if q.To != 0 {
		c = append(c, "e.t < ?")
		args = append(args, q.To)
	}
	if len(q.Kinds) > 0 {
		c = append(c, "e.kind IN ("+placeholders(len(q.Kinds))+")")
		for _, k := range q.Kinds {
			args = append(args, int64(k))
		}
	}
	if len(q.ContextKeys) > 0 {
		c = append(c, "e.ctx IN (SELECT ctx FROM ctx_key WHERE key IN ("+placeholders(len(q.ContextKeys))+"))")
		for _, k := range q.ContextKeys {
			args = append(args, k)
		}
	}
	if len(q.Correlation) > 0 {
		c = append(c, "e.ctx IN (SELECT ctx FROM ctx_key WHERE pos = 0 AND key IN ("+placeholders(len(q.Correlation))+"))")
		for _, k := range q.Correlation {
			args = append(args, k)
		}
	}
	if q.Agent != "" {
		c = append(c, "e.run IN (SELECT r.id FROM run r JOIN agent a ON a.id = r.agent WHERE a.uuid = ?)")
		args = append(args, q.Agent)
	}
	if q.Signals {
		c = append(c, "e.sev > 0")
	}
	if len(c) == 0 {
		c = append(c, "1")
	}
	return from, strings.Join(c, " AND "), args
}

// A row is an event of a segment, decoded.
type row struct {
	at    place
	agent string
	ev    *event.Event
}

// An iter walks the matching events of one segment.
type iter struct {
	s     *search
	seg   *segment
	after place
	rows  []row
	done  bool
}

func (it *iter) head() *row { return &it.rows[0] }

// fill fetches until at least one event matches or there are no more.
func (it *iter) fill(ctx context.Context) error {
	for len(it.rows) == 0 && !it.done {
		if err := it.fetch(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (it *iter) fetch(ctx context.Context) error {
	d, g := it.s.d, it.seg
	db, err := d.acquire(g)
	if err != nil {
		return err
	}
	defer d.release(g)
	from, cond, args := it.s.where(it.after.t)
	// The last place shown was in another segment when seg differs: then all
	// events of the same time follow it, or none, by the order of segments.
	switch {
	case it.after.seg == g.id:
		cond += " AND (e.t, e.n) > (?, ?)"
		args = append(args, it.after.t, it.after.n)
	case it.after.seg > g.id:
		cond += " AND e.t > ?"
		args = append(args, it.after.t)
	default:
		cond += " AND e.t >= ?"
		args = append(args, it.after.t)
	}
	limit := fetchRows
	if it.s.q.Text == "" && it.s.q.Limit > 0 {
		limit = min(limit, it.s.q.Limit+1)
	}
	args = append(args, limit)
	rows, err := db.QueryContext(ctx, "SELECT e.t, e.n, e.run, e.chunk, e.slot FROM "+from+" WHERE "+cond+" ORDER BY e.t, e.n LIMIT ?", args...)
	if err != nil {
		return fmt.Errorf("search %s: %w", g.path, err)
	}
	var refs []rowRef
	for rows.Next() {
		var r rowRef
		if err := rows.Scan(&r.t, &r.n, &r.run, &r.chunk, &r.slot); err != nil {
			return errors.Join(fmt.Errorf("search %s: %w", g.path, err), rows.Close())
		}
		refs = append(refs, r)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("search %s: %w", g.path, err)
	}
	it.done = len(refs) < limit
	if len(refs) == 0 {
		return nil
	}
	l := refs[len(refs)-1]
	it.after = place{l.t, g.id, l.n}
	evs, err := d.decodeEvents(ctx, db, g, refs)
	if err != nil {
		return err
	}
	out := make([]row, len(refs))
	agents := map[int64]string{}
	for i, r := range refs {
		agent, ok := agents[r.run]
		if !ok {
			agent = d.agentOf(g, r.run)
			agents[r.run] = agent
		}
		out[i] = row{at: place{r.t, g.id, r.n}, agent: agent, ev: evs[i]}
	}
	it.rows, err = it.s.withText(ctx, out)
	return err
}

type rowRef struct {
	t, n, run, chunk int64
	slot             int
}

// decodeEvents reads the chunks that refs name, each once.
func (d *DB) decodeEvents(ctx context.Context, db *sql.DB, g *segment, refs []rowRef) ([]*event.Event, error) {
	byChunk := map[int64]map[int]int{} // chunk → slot → index
	for i, r := range refs {
		m := byChunk[r.chunk]
		if m == nil {
			m = map[int]int{}
			byChunk[r.chunk] = m
		}
		m[r.slot] = i
	}
	out := make([]*event.Event, len(refs))
	err := d.chunks(ctx, db, g, slices.Sorted(maps.Keys(byChunk)), func(chunk int64, raw []byte) error {
		want := byChunk[chunk]
		return slots(raw, func(slot int) bool { _, ok := want[slot]; return ok }, func(slot int, msg []byte) error {
			e := new(event.Event)
			out[want[slot]] = e
			return event.ConsumeEvent(msg, e)
		})
	})
	if err != nil {
		return nil, err
	}
	for i, e := range out {
		if e == nil {
			return nil, &store.CorruptError{Path: g.path, Object: fmt.Sprintf("chunk %d", refs[i].chunk), Reason: fmt.Sprintf("has no slot %d", refs[i].slot)}
		}
	}
	return out, nil
}

// chunk reads and decompresses a chunk.
func (d *DB) chunk(ctx context.Context, db *sql.DB, g *segment, id int64) ([]byte, error) {
	var data []byte
	if err := db.QueryRowContext(ctx, "SELECT data FROM chunk WHERE id=?", id).Scan(&data); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return nil, &store.CorruptError{Path: g.path, Object: fmt.Sprintf("chunk %d", id), Reason: "is missing"}
		}
		return nil, fmt.Errorf("read chunk %d of %s: %w", id, g.path, err)
	}
	raw, err := d.dec.DecodeAll(data, nil)
	if err != nil {
		return nil, &store.CorruptError{Path: g.path, Object: fmt.Sprintf("chunk %d", id), Reason: err.Error()}
	}
	return raw, nil
}

// chunksPerQuery bounds the chunks that one statement reads; a few dozen keep
// what is held of them small.
const chunksPerQuery = 32

// chunks reads chunks, several with one statement, and calls fn with each. An
// error of fn says what is wrong with the chunk.
func (d *DB) chunks(ctx context.Context, db *sql.DB, g *segment, ids []int64, fn func(id int64, raw []byte) error) error {
	for part := range slices.Chunk(ids, chunksPerQuery) {
		if err := d.chunksOf(ctx, db, g, part, fn); err != nil {
			return err
		}
	}
	return nil
}

func (d *DB) chunksOf(ctx context.Context, db *sql.DB, g *segment, ids []int64, fn func(id int64, raw []byte) error) error {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	rows, err := db.QueryContext(ctx, "SELECT id, data FROM chunk WHERE id IN ("+placeholders(len(ids))+")", args...)
	if err != nil {
		return fmt.Errorf("read chunks of %s: %w", g.path, err)
	}
	defer rows.Close()
	missing := make(map[int64]bool, len(ids))
	for _, id := range ids {
		missing[id] = true
	}
	for rows.Next() {
		var id int64
		var data sql.RawBytes
		if err := rows.Scan(&id, &data); err != nil {
			return fmt.Errorf("read chunks of %s: %w", g.path, err)
		}
		delete(missing, id)
		raw, err := d.dec.DecodeAll(data, nil)
		if err == nil {
			err = fn(id, raw)
		}
		if err != nil {
			return &store.CorruptError{Path: g.path, Object: fmt.Sprintf("chunk %d", id), Reason: err.Error()}
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read chunks of %s: %w", g.path, err)
	}
	for id := range missing {
		return &store.CorruptError{Path: g.path, Object: fmt.Sprintf("chunk %d", id), Reason: "is missing"}
	}
	return nil
}

// withText keeps the rows whose event or process node holds the text. Strings
// lie in the encoded messages as they are.
func (s *search) withText(ctx context.Context, rows []row) ([]row, error) {
	if s.q.Text == "" {
		return rows, nil
	}
	text := []byte(s.q.Text)
	unknown := map[string][]event.Ref{}
	hit := make([]bool, len(rows))
	for i, r := range rows {
		if hit[i] = bytes.Contains(event.AppendEvent(nil, r.ev), text); hit[i] {
			continue
		}
		k := nodeKey{r.agent, r.ev.ProcID}
		if _, ok := s.nodeText[k]; !ok && !r.ev.ProcID.IsZero() {
			s.nodeText[k] = false
			unknown[r.agent] = append(unknown[r.agent], r.ev.ProcID)
		}
	}
	for agent, refs := range unknown {
		nodes, err := s.d.Nodes(ctx, agent, refs)
		if err != nil {
			return nil, err
		}
		for ref, n := range nodes {
			s.nodeText[nodeKey{agent, ref}] = bytes.Contains(event.AppendProcess(nil, n), text)
		}
	}
	out := rows[:0]
	for i, r := range rows {
		if hit[i] || s.nodeText[nodeKey{r.agent, r.ev.ProcID}] {
			out = append(out, r)
		}
	}
	return out, nil
}

// count counts the matches on all pages, up to store.MaxCount.
func (s *search) count(ctx context.Context, segs []*segment, page *store.Page) (int64, bool, error) {
	if s.q.Text != "" {
		// Counting would read everything; what is on this page is a lower bound.
		return int64(len(page.Items)), page.Next == "" && s.q.After == "", nil
	}
	var total int64
	for _, g := range segs {
		sp := s.d.span(g)
		if sp.events == 0 || sp.last < s.q.From || (s.q.To != 0 && sp.first >= s.q.To) {
			continue
		}
		db, err := s.d.acquire(g)
		if err != nil {
			return 0, false, err
		}
		from, cond, args := s.where(math.MinInt64)
		var n int64
		err = db.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM "+from+" WHERE "+cond+" LIMIT ?)", append(args, store.MaxCount+1)...).Scan(&n)
		s.d.release(g)
		if err != nil {
			return 0, false, fmt.Errorf("count in %s: %w", g.path, err)
		}
		if total += n; total > store.MaxCount {
			return store.MaxCount, false, nil
		}
	}
	return total, true, nil
}

// byID finds events by run and number: the batches tell which chunks may hold
// them.
func (d *DB) byID(ctx context.Context, segs []*segment, ids []store.EventID) (store.Page, error) {
	if len(ids) > store.MaxLimit {
		ids = ids[:store.MaxLimit]
	}
	want := map[store.EventID]bool{}
	for _, id := range ids {
		want[id] = true
	}
	var found []row
	for _, g := range segs {
		if len(want) == 0 {
			break
		}
		rows, err := d.byIDIn(ctx, g, want)
		if err != nil {
			return store.Page{}, err
		}
		found = append(found, rows...)
	}
	slices.SortFunc(found, func(a, b row) int { return a.at.compare(b.at) })
	page := store.Page{Total: int64(len(found)), Exact: true}
	for _, r := range found {
		page.Items = append(page.Items, store.Found{Agent: r.agent, Event: r.ev})
	}
	return page, nil
}

// byIDIn finds wanted events in g and takes them out of want.
func (d *DB) byIDIn(ctx context.Context, g *segment, want map[store.EventID]bool) ([]row, error) {
	type wanted struct {
		id  store.EventID
		run int64
	}
	var here []wanted
	d.mu.Lock()
	for id := range want {
		if r := g.runs[runKey{id.Agent, id.Ref.Run}]; r != nil {
			here = append(here, wanted{id, r.id})
		}
	}
	d.mu.Unlock()
	if len(here) == 0 {
		return nil, nil
	}
	db, err := d.acquire(g)
	if err != nil {
		return nil, err
	}
	defer d.release(g)
	chunks := map[int64]string{} // chunk → agent
	for _, w := range here {
		rows, err := db.QueryContext(ctx, "SELECT chunk_from, chunk_to FROM batch WHERE run=? AND last_event>=? AND first_event<=? ORDER BY last_event LIMIT 16",
			w.run, int64(w.id.Ref.Seq), int64(w.id.Ref.Seq))
		if err != nil {
			return nil, fmt.Errorf("search %s: %w", g.path, err)
		}
		for rows.Next() {
			var from, to int64
			if err := rows.Scan(&from, &to); err != nil {
				return nil, errors.Join(err, rows.Close())
			}
			for ; from < to; from++ {
				chunks[from] = w.id.Agent
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, fmt.Errorf("search %s: %w", g.path, err)
		}
	}
	order := make([]int64, 0, len(chunks))
	for c := range chunks {
		order = append(order, c)
	}
	slices.Sort(order)
	var out []row
	for _, c := range order {
		raw, err := d.chunk(ctx, db, g, c)
		if err != nil {
			return nil, err
		}
		err = slots(raw, func(int) bool { return true }, func(slot int, msg []byte) error {
			e := new(event.Event)
			if err := event.ConsumeEvent(msg, e); err != nil {
				return err
			}
			id := store.EventID{Agent: chunks[c], Ref: e.Ref()}
			if want[id] {
				delete(want, id)
				out = append(out, row{at: place{e.TimeNS, g.id, c<<16 | int64(slot)}, agent: id.Agent, ev: e})
			}
			return nil
		})
		if err != nil {
			return nil, &store.CorruptError{Path: g.path, Object: fmt.Sprintf("chunk %d", c), Reason: err.Error()}
		}
	}
	return out, nil
}
