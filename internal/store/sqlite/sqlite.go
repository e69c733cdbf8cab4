// Package sqlite keeps records in SQLite files, one for each window of time
// (a segment), so that forgetting is removing a file.
//
// An event is a row of small numbers (time, kind, context list, run, severity)
// and a place in a chunk: 64 events of one batch, sorted by correlation key and
// compressed together, so that what looks alike lies together. Process nodes
// are kept the same way. A batch lies in one segment, the one that was current
// when it arrived, and its id is written in the transaction that stores its
// records: it is stored whole, once, or not at all.
//
// docs/formats/store.md describes the files.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/store"
)

// Config says where the store is and how it is cut.
type Config struct {
	Dir          string        // made when it is not there
	Window       time.Duration // a segment takes what arrives within it; 24 h when 0
	MaxSegment   int64         // bytes after which a new segment begins early; 1 GiB when 0
	OpenSegments int           // files kept open for reading; 8 when 0
}

func (c *Config) defaults() {
	if c.Window == 0 {
		c.Window = 24 * time.Hour
	}
	if c.MaxSegment == 0 {
		c.MaxSegment = 1 << 30
	}
	if c.OpenSegments == 0 {
		c.OpenSegments = 8
	}
}

// DB is a store in a folder of segments. It implements store.Store.
type DB struct {
	cfg Config
	now func() time.Time

	enc *zstd.Encoder // used by the writer alone
	dec *zstd.Decoder // safe for several goroutines in DecodeAll

	write sync.Mutex // held by the one that writes
	w     *writer    // nil until the first batch

	mu     sync.Mutex
	segs   []*segment // by id, oldest first
	tick   int64
	closed bool
}

var _ store.Store = (*DB)(nil)

const segmentPrefix, segmentSuffix = "events-", ".db"

// Open opens the store in cfg.Dir. now tells the time of arrival, which decides
// about segments only.
func Open(ctx context.Context, cfg Config, now func() time.Time) (*DB, error) {
	cfg.defaults()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxChunk))
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	d := &DB{cfg: cfg, now: now, enc: enc, dec: dec}
	if err := d.scan(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// scan finds the segments and removes what a crash left half made.
func (d *DB) scan(ctx context.Context) error {
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".tmp-") {
			if err := os.Remove(filepath.Join(d.cfg.Dir, name)); err != nil {
				return fmt.Errorf("open store: %w", err)
			}
			continue
		}
		num, ok := strings.CutPrefix(name, segmentPrefix)
		num, ok2 := strings.CutSuffix(num, segmentSuffix)
		if !ok || !ok2 {
			continue
		}
		id, err := strconv.ParseInt(num, 10, 64)
		if err != nil || id < 1 {
			continue
		}
		d.segs = append(d.segs, &segment{id: id, path: filepath.Join(d.cfg.Dir, name)})
	}
	slices.SortFunc(d.segs, func(a, b *segment) int { return int(a.id - b.id) })
	for _, g := range d.segs {
		if err := d.loadSegment(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

func (d *DB) loadSegment(ctx context.Context, g *segment) error {
	db, err := sql.Open("sqlite", dsn(g.path, true))
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	return errors.Join(g.load(ctx, db), db.Close())
}

// Close frees the files. Methods called later return store.ErrClosed.
func (d *DB) Close() error {
	d.write.Lock()
	defer d.write.Unlock()
	var err error
	if d.w != nil {
		err = d.w.close()
		d.w = nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return err
	}
	d.closed = true
	for _, g := range d.segs {
		if g.db != nil && g.readers == 0 {
			err = errors.Join(err, g.db.Close())
			g.db = nil
		}
	}
	d.dec.Close()
	return errors.Join(err, d.enc.Close())
}

// acquire opens g for reading. The caller calls release when it is done.
func (d *DB) acquire(g *segment) (*sql.DB, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, store.ErrClosed
	}
	d.tick++
	g.used = d.tick
	if g.db == nil {
		db, err := sql.Open("sqlite", dsn(g.path, true))
		if err != nil {
			return nil, fmt.Errorf("open segment: %w", err)
		}
		db.SetMaxOpenConns(4)
		db.SetMaxIdleConns(2)
		g.db = db
	}
	g.readers++
	return g.db, nil
}

// release ends a use of g and closes the files that were not used for longest.
func (d *DB) release(g *segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g.readers--
	open := 0
	var oldest *segment
	for _, s := range d.segs {
		if s.db == nil {
			continue
		}
		open++
		if s.readers == 0 && (oldest == nil || s.used < oldest.used) {
			oldest = s
		}
	}
	if (open > d.cfg.OpenSegments || d.closed) && oldest != nil {
		// The error of closing a reader changes nothing for anyone.
		_ = oldest.db.Close()
		oldest.db = nil
	}
}

// segments is a copy of the list with the facts that change copied as well.
func (d *DB) segments() ([]*segment, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, store.ErrClosed
	}
	return slices.Clone(d.segs), nil
}

// Runs implements store.Store.
func (d *DB) Runs(context.Context) ([]store.Run, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, store.ErrClosed
	}
	all := map[runKey]*store.Run{}
	for _, g := range d.segs {
		for k, r := range g.runs {
			a := all[k]
			if a == nil {
				a = &store.Run{Agent: k.agent, Run: k.run, FirstSeq: r.first}
				all[k] = a
			}
			a.FirstSeq = min(a.FirstSeq, r.first)
			a.LastSeq = max(a.LastSeq, r.last)
			a.CanaryAt = max(a.CanaryAt, r.canaryAt)
			a.LastTime = max(a.LastTime, r.lastTime)
			a.Lost += r.lost
			if len(r.start) > 0 {
				start := new(event.RunStart)
				if err := event.ConsumeRunStart(r.start, start); err != nil {
					return nil, &store.CorruptError{Path: g.path, Object: "run", Reason: err.Error()}
				}
				a.Start = start
			}
		}
	}
	out := make([]store.Run, 0, len(all))
	for _, a := range all {
		out = append(out, *a)
	}
	at := func(r store.Run) int64 {
		if r.Start == nil {
			return 0
		}
		return r.Start.At
	}
	slices.SortFunc(out, func(a, b store.Run) int {
		if c := strings.Compare(a.Agent, b.Agent); c != 0 {
			return c
		}
		if at(a) != at(b) {
			if at(a) < at(b) {
				return -1
			}
			return 1
		}
		if a.Run < b.Run {
			return -1
		}
		return 1
	})
	return out, nil
}

// Stats implements store.Store.
func (d *DB) Stats(context.Context) (store.Stats, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return store.Stats{}, store.ErrClosed
	}
	s := store.Stats{Segments: len(d.segs)}
	for _, g := range d.segs {
		s.Events += g.events
		s.Nodes += g.nodes
		s.Bytes += g.size()
		if g.events > 0 {
			if s.FirstNS == 0 || g.first < s.FirstNS {
				s.FirstNS = g.first
			}
			s.LastNS = max(s.LastNS, g.last)
		}
	}
	return s, nil
}
