package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/store"
)

// Sizes of what is written together.
const (
	chunkEvents = 64
	rowsPerStmt = 32       // rows of one INSERT: fewer calls into the engine
	maxChunk    = 64 << 20 // decompressed bytes of a chunk that a reader accepts
	maxDict     = 100_000  // context lists remembered by the writer
)

// A writer holds the one writing connection to the current segment.
type writer struct {
	seg    *segment
	db     *sql.DB
	conn   *sql.Conn
	opened time.Time

	nextChunk int64
	ctxIDs    map[string]int64
	ruleIDs   map[string]int64

	putChunk, putEvent, putEvents, putSignal, putNode, putRecord, putFacts *sql.Stmt

	raw  []byte // scratch: events of a chunk, encoded
	comp []byte // scratch: the chunk, compressed
	args []any
}

// close ends what is open. The statements go first: SQLite keeps a connection
// with its locks for as long as one of them is there.
func (w *writer) close() error {
	var err error
	for _, s := range []*sql.Stmt{w.putChunk, w.putEvent, w.putEvents, w.putSignal, w.putNode, w.putRecord, w.putFacts} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	return errors.Join(err, w.conn.Close(), w.db.Close())
}

// Append implements store.Store.
func (d *DB) Append(ctx context.Context, b *store.Batch) (bool, error) {
	if b.ID == "" || len(b.ID) > store.MaxIDLen || b.Agent == "" || len(b.Agent) > store.MaxIDLen || b.LastSeq < b.FirstSeq {
		return false, fmt.Errorf("append batch %.64q: %w", b.ID, store.ErrBatch)
	}
	d.write.Lock()
	defer d.write.Unlock()
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("append batch %s: %w", b.ID, err)
	}
	// From here on the caller waits: a statement that is broken off leaves open
	// whether it took effect, and a batch takes milliseconds.
	ctx = context.WithoutCancel(ctx)
	segs, err := d.segments()
	if err != nil {
		return false, err
	}
	if dup, err := d.known(ctx, segs, b); dup || err != nil {
		return dup, err
	}
	if err := d.current(ctx); err != nil {
		return false, full(err)
	}
	dup, err := d.w.append(ctx, d, b)
	return dup, full(err)
}

// full adds store.ErrFull to an error that means just that.
func full(err error) error {
	var e *sqlite.Error
	if errors.Is(err, syscall.ENOSPC) || (errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL) {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

// known looks for the batch in segments that may hold it: none, when its
// numbers are higher than all that came before. The transaction that stores it
// asks its own segment once more.
func (d *DB) known(ctx context.Context, segs []*segment, b *store.Batch) (bool, error) {
	key := runKey{b.Agent, b.Run}
	for _, g := range segs {
		r := g.runs[key]
		if r == nil || b.FirstSeq > r.last || b.LastSeq < r.first {
			continue
		}
		db, err := d.acquire(g)
		if err != nil {
			return false, err
		}
		var one int
		err = db.QueryRowContext(ctx, "SELECT 1 FROM batch WHERE run=? AND id=?", r.id, b.ID).Scan(&one)
		d.release(g)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return false, fmt.Errorf("look for batch in %s: %w", g.path, err)
		}
	}
	return false, nil
}

// current makes d.w the writer of the segment for now.
func (d *DB) current(ctx context.Context) error {
	now := d.now()
	if d.w != nil {
		if now.Sub(d.w.opened) < d.cfg.Window && d.w.seg.size() < d.cfg.MaxSegment {
			return nil
		}
		w := d.w
		d.w = nil
		if _, err := w.conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			return errors.Join(fmt.Errorf("checkpoint %s: %w", w.seg.path, err), w.close())
		}
		if err := w.close(); err != nil {
			return fmt.Errorf("close segment: %w", err)
		}
	}
	d.mu.Lock()
	var last *segment
	if n := len(d.segs); n > 0 {
		last = d.segs[n-1]
	}
	d.mu.Unlock()
	if last != nil && now.Sub(time.Unix(0, last.createdAt)) < d.cfg.Window && last.size() < d.cfg.MaxSegment {
		// What is known of it may be from before a write that failed half way.
		fresh := &segment{path: last.path}
		if err := d.loadSegment(ctx, fresh); err != nil {
			return err
		}
		d.mu.Lock()
		last.events, last.nodes, last.first, last.last, last.runs, last.agents = fresh.events, fresh.nodes, fresh.first, fresh.last, fresh.runs, fresh.agents
		d.mu.Unlock()
		w, err := openWriter(ctx, last)
		if err != nil {
			return err
		}
		d.mu.Lock()
		last.facts = true
		d.mu.Unlock()
		d.w = w
		return nil
	}
	id := int64(1)
	if last != nil {
		id = last.id + 1
	}
	g := &segment{id: id, path: filepath.Join(d.cfg.Dir, fmt.Sprintf("%s%08d%s", segmentPrefix, id, segmentSuffix))}
	if err := createSegment(ctx, g.path, now.UnixNano()); err != nil {
		return err
	}
	if err := d.loadSegment(ctx, g); err != nil {
		return err
	}
	w, err := openWriter(ctx, g)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.segs = append(d.segs, g)
	d.mu.Unlock()
	d.w = w
	return nil
}

func openWriter(ctx context.Context, g *segment) (*writer, error) {
	db, err := sql.Open("sqlite", dsn(g.path, false))
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	db.SetMaxOpenConns(1)
	w := &writer{seg: g, db: db, opened: time.Unix(0, g.createdAt), ctxIDs: map[string]int64{}, ruleIDs: map[string]int64{}}
	if w.conn, err = db.Conn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open segment %s: %w", g.path, err), db.Close())
	}
	if _, err := w.conn.ExecContext(ctx, factsTable()); err != nil {
		return nil, errors.Join(fmt.Errorf("open segment %s: %w", g.path, err), w.close())
	}
	const eventRow = "(?,?,?,?,?,?,?,?)"
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&w.putChunk, "INSERT INTO chunk (id, data) VALUES (?,?)"},
		{&w.putEvent, "INSERT INTO event VALUES " + eventRow},
		{&w.putEvents, "INSERT INTO event VALUES " + strings.Repeat(eventRow+",", rowsPerStmt-1) + eventRow},
		{&w.putSignal, "INSERT OR IGNORE INTO signal VALUES (?,?,?,?)"},
		{&w.putNode, "INSERT OR REPLACE INTO node VALUES (?,?,?,?,?)"},
		{&w.putRecord, "INSERT INTO record (run, data) VALUES (?,?)"},
		{&w.putFacts, "INSERT OR REPLACE INTO file_facts VALUES (?,?,?,?)"},
	} {
		// The statements live as long as the connection.
		if *s.stmt, err = w.conn.PrepareContext(ctx, s.text); err != nil {
			return nil, errors.Join(fmt.Errorf("open segment %s: %w", g.path, err), w.close())
		}
	}
	err = w.conn.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) + 1 FROM chunk").Scan(&w.nextChunk)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open segment %s: %w", g.path, err), w.close())
	}
	return w, nil
}

// A pending is what a transaction will have changed in a segment's facts; they
// are taken over when it is committed.
type pending struct {
	agentID       int64
	run           segmentRun
	events, nodes int64
	first, last   int64
	nextChunk     int64
	newCtx        map[string]int64
	newRules      map[string]int64
}

func (w *writer) append(ctx context.Context, d *DB, b *store.Batch) (dup bool, err error) {
	if _, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return false, fmt.Errorf("append batch %s: %w", b.ID, err)
	}
	p := &pending{nextChunk: w.nextChunk, newCtx: map[string]int64{}, newRules: map[string]int64{},
		events: w.seg.events, nodes: w.seg.nodes, first: w.seg.first, last: w.seg.last}
	dup, err = w.store(ctx, d, b, p)
	if err == nil && !dup {
		_, err = w.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		// The engine may have rolled back already; then this fails. What the
		// file says is read when it is opened again: a commit that failed may
		// have taken effect all the same.
		_, _ = w.conn.ExecContext(ctx, "ROLLBACK")
		d.w = nil
		return false, errors.Join(fmt.Errorf("append batch %s: %w", b.ID, err), w.close())
	}
	if dup {
		if _, err := w.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
			d.w = nil
			return false, errors.Join(fmt.Errorf("append batch %s: %w", b.ID, err), w.close())
		}
		return true, nil
	}
	if len(w.ctxIDs) > maxDict {
		clear(w.ctxIDs)
	}
	for k, v := range p.newCtx {
		w.ctxIDs[k] = v
	}
	for k, v := range p.newRules {
		w.ruleIDs[k] = v
	}
	w.nextChunk = p.nextChunk
	d.mu.Lock()
	defer d.mu.Unlock()
	g := w.seg
	g.events, g.nodes, g.first, g.last = p.events, p.nodes, p.first, p.last
	g.agents[b.Agent] = p.agentID
	g.runs[runKey{b.Agent, b.Run}] = &p.run
	return false, nil
}

// store writes the batch inside the open transaction.
func (w *writer) store(ctx context.Context, d *DB, b *store.Batch, p *pending) (dup bool, err error) {
	if err := w.openRun(ctx, b, p); err != nil {
		return false, err
	}
	var one int
	err = w.conn.QueryRowContext(ctx, "SELECT 1 FROM batch WHERE run=? AND id=?", p.run.id, b.ID).Scan(&one)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	var (
		events []*event.Event
		nodes  []*event.Process
	)
	for _, rec := range b.Records {
		switch {
		case rec.Event != nil:
			if rec.Event.Run == 0 {
				rec.Event.Run = b.Run
			}
			events = append(events, rec.Event)
		case rec.ProcessNode != nil:
			nodes = append(nodes, rec.ProcessNode)
		case rec.Canary != nil:
			p.run.canaryAt = max(p.run.canaryAt, rec.Canary.At)
		case rec.FileFacts != nil:
			f := rec.FileFacts
			if _, err := w.putFacts.ExecContext(ctx, p.run.id, int64(f.Event.Seq), f.Field, event.AppendFileFacts(nil, f)); err != nil {
				return false, err
			}
		default:
			if rec.RunStart != nil {
				p.run.start = event.AppendRunStart(nil, rec.RunStart)
			}
			if rec.Lost != nil {
				p.run.lost += rec.Lost.Count
			}
			if _, err := w.putRecord.ExecContext(ctx, p.run.id, event.AppendSpoolRecord(nil, rec)); err != nil {
				return false, err
			}
		}
	}
	chunkFrom := p.nextChunk
	if err := w.storeEvents(ctx, d, events, p); err != nil {
		return false, err
	}
	chunkTo := p.nextChunk
	if err := w.storeNodes(ctx, d, nodes, p); err != nil {
		return false, err
	}
	var firstEvent, lastEvent uint64
	for i, e := range events {
		if i == 0 || e.Seq < firstEvent {
			firstEvent = e.Seq
		}
		lastEvent = max(lastEvent, e.Seq)
	}
	r := &p.run
	_, err = w.conn.ExecContext(ctx, "INSERT INTO batch VALUES (?,?,?,?,?,?,?,?)", r.id, b.ID, int64(b.FirstSeq), int64(b.LastSeq),
		int64(firstEvent), int64(lastEvent), chunkFrom, chunkTo)
	if err != nil {
		return false, err
	}
	_, err = w.conn.ExecContext(ctx, "UPDATE run SET first=?, last=?, last_time=?, canary_at=?, lost=?, start=? WHERE id=?",
		int64(r.first), int64(r.last), r.lastTime, r.canaryAt, int64(r.lost), r.start, r.id)
	if err != nil {
		return false, err
	}
	_, err = w.conn.ExecContext(ctx, "UPDATE total SET events=?, nodes=?, first_time=?, last_time=?", p.events, p.nodes, p.first, p.last)
	return false, err
}

// openRun finds or makes the rows of the batch's agent and run.
func (w *writer) openRun(ctx context.Context, b *store.Batch, p *pending) error {
	if r := w.seg.runs[runKey{b.Agent, b.Run}]; r != nil {
		p.agentID, p.run = w.seg.agents[b.Agent], *r
		p.run.first, p.run.last = min(r.first, b.FirstSeq), max(r.last, b.LastSeq)
		return nil
	}
	id, ok := w.seg.agents[b.Agent]
	if !ok {
		res, err := w.conn.ExecContext(ctx, "INSERT INTO agent (uuid) VALUES (?)", b.Agent)
		if err != nil {
			return err
		}
		if id, err = res.LastInsertId(); err != nil {
			return err
		}
	}
	res, err := w.conn.ExecContext(ctx, "INSERT INTO run (agent, run, first, last) VALUES (?,?,?,?)", id, int64(b.Run), int64(b.FirstSeq), int64(b.LastSeq))
	if err != nil {
		return err
	}
	rid, err := res.LastInsertId()
	if err != nil {
		return err
	}
	p.agentID = id
	p.run = segmentRun{id: rid, first: b.FirstSeq, last: b.LastSeq}
	return nil
}

func firstKey(e *event.Event) string {
	if len(e.ContextKeys) == 0 {
		return ""
	}
	return e.ContextKeys[0]
}

func (w *writer) storeEvents(ctx context.Context, d *DB, events []*event.Event, p *pending) error {
	// By correlation key and kind: neighbours in a chunk look alike.
	slices.SortStableFunc(events, func(a, b *event.Event) int {
		if c := strings.Compare(firstKey(a), firstKey(b)); c != 0 {
			return c
		}
		return int(a.Kind) - int(b.Kind)
	})
	w.args = w.args[:0]
	for len(events) > 0 {
		part := events[:min(chunkEvents, len(events))]
		events = events[len(part):]
		chunk := p.nextChunk
		p.nextChunk++
		w.raw = w.raw[:0]
		for slot, e := range part {
			w.raw = appendDelimited(w.raw, e, event.AppendEvent)
			n := p.events
			p.events++
			if n == 0 || e.TimeNS < p.first {
				p.first = e.TimeNS
			}
			p.last = max(p.last, e.TimeNS)
			p.run.lastTime = max(p.run.lastTime, e.TimeNS)
			ctxID, err := w.ctxID(ctx, e.ContextKeys, p)
			if err != nil {
				return err
			}
			sev, err := w.storeSignals(ctx, e, n, chunk, p)
			if err != nil {
				return err
			}
			w.args = append(w.args, e.TimeNS, n, p.run.id, int64(e.Kind), ctxID, sev, chunk, int64(slot))
			if len(w.args) == rowsPerStmt*8 {
				if _, err := w.putEvents.ExecContext(ctx, w.args...); err != nil {
					return err
				}
				w.args = w.args[:0]
			}
		}
		if err := w.storeChunk(ctx, d, chunk); err != nil {
			return err
		}
	}
	for a := w.args; len(a) > 0; a = a[8:] {
		if _, err := w.putEvent.ExecContext(ctx, a[:8]...); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) storeChunk(ctx context.Context, d *DB, id int64) error {
	w.comp = d.enc.EncodeAll(w.raw, w.comp[:0])
	_, err := w.putChunk.ExecContext(ctx, id, w.comp)
	return err
}

// severities are numbered as they are stored: 0 is no signal.
var severities = map[string]int64{"info": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}

func (w *writer) storeSignals(ctx context.Context, e *event.Event, n, chunk int64, p *pending) (sev int64, err error) {
	for i := range e.Signals {
		s := &e.Signals[i]
		sev = max(sev, 1, severities[s.Severity])
		id, err := w.ruleID(ctx, s.RuleID, p)
		if err != nil {
			return 0, err
		}
		if _, err := w.putSignal.ExecContext(ctx, id, e.TimeNS, n, chunk); err != nil {
			return 0, err
		}
	}
	return sev, nil
}

func (w *writer) storeNodes(ctx context.Context, d *DB, nodes []*event.Process, p *pending) error {
	for len(nodes) > 0 {
		part := nodes[:min(chunkEvents, len(nodes))]
		nodes = nodes[len(part):]
		chunk := p.nextChunk
		p.nextChunk++
		w.raw = w.raw[:0]
		for slot, n := range part {
			w.raw = appendDelimited(w.raw, n, event.AppendProcess)
			_, err := w.putNode.ExecContext(ctx, p.agentID, int64(n.ID.Run), int64(n.ID.Seq), chunk, int64(slot))
			if err != nil {
				return err
			}
			p.nodes++
		}
		if err := w.storeChunk(ctx, d, chunk); err != nil {
			return err
		}
	}
	return nil
}

// keySep joins context keys in the dictionary; no key contains it.
const keySep = "\x00"

// ctxID is the number of a list of context keys.
func (w *writer) ctxID(ctx context.Context, keys []string, p *pending) (int64, error) {
	joined := strings.Join(keys, keySep)
	if id, ok := w.ctxIDs[joined]; ok {
		return id, nil
	}
	if id, ok := p.newCtx[joined]; ok {
		return id, nil
	}
	var id int64
	err := w.conn.QueryRowContext(ctx, "SELECT id FROM ctx WHERE keys=?", joined).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		res, err := w.conn.ExecContext(ctx, "INSERT INTO ctx (keys) VALUES (?)", joined)
		if err != nil {
			return 0, err
		}
		if id, err = res.LastInsertId(); err != nil {
			return 0, err
		}
		for pos, k := range keys {
			if _, err := w.conn.ExecContext(ctx, "INSERT OR IGNORE INTO ctx_key VALUES (?,?,?)", k, id, pos); err != nil {
				return 0, err
			}
		}
	} else if err != nil {
		return 0, err
	}
	p.newCtx[joined] = id
	return id, nil
}

func (w *writer) ruleID(ctx context.Context, name string, p *pending) (int64, error) {
	if id, ok := w.ruleIDs[name]; ok {
		return id, nil
	}
	if id, ok := p.newRules[name]; ok {
		return id, nil
	}
	if _, err := w.conn.ExecContext(ctx, "INSERT OR IGNORE INTO rule (name) VALUES (?)", name); err != nil {
		return 0, err
	}
	var id int64
	if err := w.conn.QueryRowContext(ctx, "SELECT id FROM rule WHERE name=?", name).Scan(&id); err != nil {
		return 0, err
	}
	p.newRules[name] = id
	return id, nil
}

// appendDelimited appends the length of the encoded x and x.
func appendDelimited[T any](b []byte, x *T, f func([]byte, *T) []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, binary.MaxVarintLen32)...)
	b = f(b, x)
	body := b[at+binary.MaxVarintLen32:]
	n := binary.PutUvarint(b[at:at+binary.MaxVarintLen32], uint64(len(body)))
	copy(b[at+n:], body)
	return b[:at+n+len(body)]
}

// errDelimited means that a chunk does not hold the messages it should.
var errDelimited = errors.New("length of a message is wrong")

// nextDelimited cuts the first message off b.
func nextDelimited(b []byte) (msg, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, errDelimited
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}

// slots decodes the messages of chunk at the slots that want names, in the
// order of the chunk.
func slots(chunk []byte, want func(slot int) bool, fn func(slot int, msg []byte) error) error {
	for slot := 0; len(chunk) > 0; slot++ {
		msg, rest, err := nextDelimited(chunk)
		if err != nil {
			return err
		}
		chunk = rest
		if !want(slot) {
			continue
		}
		if err := fn(slot, msg); err != nil {
			return err
		}
	}
	return nil
}
