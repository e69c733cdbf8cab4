package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/store"
	"github.com/clewsec/clew/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A clock moves only when it is told to.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func start() *clock { return &clock{time.Unix(1_700_000_000, 0)} }

func mustOpen(t testing.TB, cfg Config, now func() time.Time) *DB {
	t.Helper()
	d, err := Open(context.Background(), cfg, now)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Opener {
		dir := t.TempDir()
		return func(t testing.TB) store.Store { return mustOpen(t, Config{Dir: dir}, start().now) }
	})
}

// TestContractSegments runs the contract with a new segment for every batch and
// few of them open, so that every question goes to many files.
func TestContractSegments(t *testing.T) {
	most := 0
	storetest.Run(t, func(t testing.TB) storetest.Opener {
		dir := t.TempDir()
		t.Cleanup(func() {
			files, err := filepath.Glob(filepath.Join(dir, segmentPrefix+"*"+segmentSuffix))
			if err != nil {
				t.Error(err)
			}
			most = max(most, len(files))
		})
		return func(t testing.TB) store.Store {
			return mustOpen(t, Config{Dir: dir, MaxSegment: 1, OpenSegments: 2}, start().now)
		}
	})
	if most < 4 {
		t.Errorf("the contract was tried with %d segments at most", most)
	}
}

func TestWindow(t *testing.T) {
	c := start()
	dir := t.TempDir()
	d := mustOpen(t, Config{Dir: dir, Window: time.Hour}, c.now)
	for i := range 4 {
		if _, err := d.Append(context.Background(), storetest.Batch(storetest.Agent1, 7, storetest.Events(7, uint64(4+100*i), 100))); err != nil {
			t.Fatal(err)
		}
		c.t = c.t.Add(31 * time.Minute)
	}
	st, err := d.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if st.Segments != 2 || st.Events != 400 {
		t.Errorf("stats %+v, want 2 segments", st)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestExpire lets the first of three days go, and keeps of it what the others
// lean on.
func TestExpire(t *testing.T) {
	ctx := context.Background()
	c := start()
	dir := t.TempDir()
	d := mustOpen(t, Config{Dir: dir}, c.now)
	first := []*event.SpoolRecord{
		{Seq: 1, RunStart: &event.RunStart{Run: 7, HostID: storetest.Agent1, Hostname: "web-1", At: storetest.Epoch}},
		{Seq: 2, Context: &event.Context{Key: storetest.ContextKey(8), Layer: "sudo", ParentKey: "outer", At: storetest.Epoch, Episodic: true}},
		{Seq: 7, Context: &event.Context{Key: "outer", Layer: "ssh_session", At: storetest.Epoch, Episodic: true}},
		{Seq: 3, Context: &event.Context{Key: "sudo_gone", Layer: "sudo", At: storetest.Epoch, Episodic: true}},
		{Seq: 3, FilterPlan: &event.FilterPlan{At: storetest.Epoch + 1, Kinds: []event.KindPlan{{Kind: event.KindOpen, Mode: "all"}}}},
		{Seq: 3, FilterPlan: &event.FilterPlan{At: storetest.Epoch}},
	}
	// The processes of generated events end, but for this one and its parent.
	parent, living := storetest.Node(event.Ref{Run: 7, Seq: 90_000}), storetest.Node(event.Ref{Run: 7, Seq: 90_004})
	living.ParentID = parent.ID
	first = append(first, &event.SpoolRecord{Seq: 4, ProcessNode: parent}, &event.SpoolRecord{Seq: 5, ProcessNode: living},
		&event.SpoolRecord{Seq: 6, Event: &event.Event{Kind: event.KindExit, Exit: &event.Exit{}, Run: 7, Seq: 90_003, TimeNS: storetest.Epoch, PID: parent.PID, StartNS: parent.StartNS,
			ProcID: parent.ID, ContextKeys: []string{"sudo_gone"}}})
	for i, recs := range [][]*event.SpoolRecord{first, storetest.Events(7, 100_004, 100), storetest.Events(7, 100_204, 100), storetest.Events(7, 100_404, 200)} {
		if _, err := d.Append(ctx, storetest.Batch(storetest.Agent1, 7, recs)); err != nil {
			t.Fatal(err)
		}
		if i != 0 {
			c.t = c.t.Add(24 * time.Hour)
		}
	}
	gone, err := d.Expire(ctx, c.t.Add(-48*time.Hour).UnixNano())
	if err != nil || gone != 101 {
		t.Fatalf("%d events went, error %v", gone, err)
	}
	check := func(d *DB) {
		t.Helper()
		for _, err := range d.Check(ctx) {
			t.Error(err)
		}
		st, err := d.Stats(ctx)
		if err != nil || st.Segments != 2 || st.Events != 300 {
			t.Errorf("stats %+v, error %v", st, err)
		}
		nodes, err := d.Nodes(ctx, storetest.Agent1, []event.Ref{parent.ID, living.ID, {Run: 7, Seq: 100_008}, {Run: 7, Seq: 100_208}})
		if err != nil || len(nodes) != 3 || nodes[parent.ID] == nil || nodes[living.ID] == nil || nodes[event.Ref{Run: 7, Seq: 100_208}] == nil {
			t.Errorf("nodes %v, error %v", nodes, err)
		}
		runs, err := d.Runs(ctx)
		if err != nil || len(runs) != 1 || runs[0].Start == nil || runs[0].Start.Hostname != "web-1" {
			t.Errorf("runs %+v, error %v", runs, err)
		}
		var keys []string
		err = d.Replay(ctx, func(_ string, rec *event.SpoolRecord) error {
			if rec.Context != nil {
				keys = append(keys, rec.Context.Key)
			}
			return nil
		})
		slices.Sort(keys)
		if err != nil || !slices.Equal(keys, []string{"outer", storetest.ContextKey(8)}) {
			t.Errorf("contexts %v, error %v", keys, err)
		}
		var plans []int64
		err = d.Collected(ctx, func(agent string, run uint64, rec *event.SpoolRecord) error {
			if agent != storetest.Agent1 || run != 7 {
				t.Errorf("a record of %s, run %d", agent, run)
			}
			plans = append(plans, rec.FilterPlan.At-storetest.Epoch)
			return nil
		})
		if err != nil || !slices.Equal(plans, []int64{1}) {
			t.Errorf("plans %v, error %v", plans, err)
		}
	}
	check(d)
	if gone, err := d.Expire(ctx, c.t.Add(-48*time.Hour).UnixNano()); err != nil || gone != 0 {
		t.Errorf("again: %d events, error %v", gone, err)
	}
	// The store goes on, and the last segment never goes.
	if _, err := d.Append(ctx, storetest.Batch(storetest.Agent1, 7, storetest.Events(7, 200_004, 100))); err != nil {
		t.Fatal(err)
	}
	if gone, err := d.Expire(ctx, 1<<62); err != nil || gone != 300 {
		t.Errorf("all but the last: %d events, error %v", gone, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = mustOpen(t, Config{Dir: dir}, c.now)
	if nodes, err := d.Nodes(ctx, storetest.Agent1, []event.Ref{parent.ID, living.ID}); err != nil || len(nodes) != 2 {
		t.Errorf("nodes %v, error %v", nodes, err)
	}
	for _, err := range d.Check(ctx) {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	half := filepath.Join(dir, ".tmp-events-00000001.db")
	if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, Config{Dir: dir}, start().now)
	if _, err := d.Append(context.Background(), storetest.Batch(storetest.Agent1, 7, storetest.Events(7, 4, 10))); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a half made segment is still there: %v", err)
	}
}

// alter runs statements on the only segment of a closed store.
func alter(t *testing.T, dir, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "events-00000001.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func filled(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	d := mustOpen(t, Config{Dir: dir}, start().now)
	if _, err := d.Append(context.Background(), storetest.Batch(storetest.Agent1, 7, storetest.Events(7, 4, 200))); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestNewerVersion(t *testing.T) {
	dir := filled(t)
	alter(t, dir, fmt.Sprintf("PRAGMA user_version=%d", formatVersion+1))
	_, err := Open(context.Background(), Config{Dir: dir}, start().now)
	var v *store.VersionError
	if !errors.As(err, &v) || v.Have != formatVersion+1 || v.Max != formatVersion {
		t.Errorf("error %v", err)
	}
}

func TestForeignFile(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "text": strings.Repeat("not a database ", 1000)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "events-00000001.db"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if d, err := Open(context.Background(), Config{Dir: dir}, start().now); err == nil {
				t.Error("opened", d.Close())
			}
		})
	}
}

// TestCheck damages files and expects that Check finds it and nothing panics.
func TestCheck(t *testing.T) {
	for name, statements := range map[string]string{
		"chunk gone":    "DELETE FROM chunk WHERE id = 2",
		"chunk damaged": "UPDATE chunk SET data = zeroblob(length(data)) WHERE id = 2",
		"chunk cut":     "UPDATE chunk SET data = substr(data, 1, 40) WHERE id = 1",
		"row gone":      "DELETE FROM event WHERE n = 5",
		"row changed":   "UPDATE event SET kind = 1 WHERE n = 5",
		"slot changed":  "UPDATE event SET slot = 900 WHERE n = 5",
		"context gone":  "DELETE FROM ctx WHERE id = 1",
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t)
			alter(t, dir, statements)
			d := mustOpen(t, Config{Dir: dir}, start().now)
			if found := d.Check(context.Background()); len(found) == 0 {
				t.Error("nothing found")
			}
			// Whether this fails depends on the damage; it must return.
			_, _ = d.Search(context.Background(), store.Query{Limit: store.MaxLimit})
			_ = d.Replay(context.Background(), func(string, *event.SpoolRecord) error { return nil })
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFull lets the file grow no more: a batch is then stored whole or not at
// all, and goes in once there is room.
func TestFull(t *testing.T) {
	ctx := context.Background()
	d := mustOpen(t, Config{Dir: t.TempDir()}, start().now)
	failed, stored := 0, 0
	for i := range 60 {
		first := uint64(4 + 100*i)
		if d.w != nil && i%3 == 1 {
			if _, err := d.w.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count=%d", 20+i)); err != nil {
				t.Fatal(err)
			}
		}
		_, err := d.Append(ctx, storetest.Batch(storetest.Agent1, 7, storetest.Events(7, first, 100)))
		if err != nil {
			if failed++; !errors.Is(err, store.ErrFull) {
				t.Errorf("batch %d: %v", i, err)
			}
		} else {
			stored++
		}
		p, serr := d.Search(ctx, store.Query{Limit: store.MaxLimit})
		if serr != nil || len(p.Items) != 100*stored {
			t.Fatalf("batch %d: append %v, search %v, %d events, not %d", i, err, serr, len(p.Items), 100*stored)
		}
	}
	if failed == 0 {
		t.Error("no batch failed")
	}
	for i := range 60 {
		if _, err := d.Append(ctx, storetest.Batch(storetest.Agent1, 7, storetest.Events(7, uint64(4+100*i), 100))); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := d.Stats(ctx); err != nil || st.Events != 6000 {
		t.Errorf("stats %+v, error %v", st, err)
	}
	for _, err := range d.Check(ctx) {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{250, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d := mustOpen(b, Config{Dir: b.TempDir()}, start().now)
			defer d.Close()
			b.ReportAllocs()
			var n uint64 = 4
			for b.Loop() {
				b.StopTimer()
				batch := storetest.Batch(storetest.Agent1, 7, storetest.Events(7, n, size))
				b.StartTimer()
				if _, err := d.Append(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
				n += uint64(size)
			}
			st, err := d.Stats(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(st.Events)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(st.Bytes)/float64(st.Events), "B/event")
		})
	}
}

func BenchmarkByKey(b *testing.B) {
	d := mustOpen(b, Config{Dir: b.TempDir()}, start().now)
	defer d.Close()
	for i := range 100 {
		if _, err := d.Append(context.Background(), storetest.Batch(storetest.Agent1, 7, storetest.Events(7, uint64(4+1000*i), 1000))); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := d.Search(context.Background(), store.Query{ContextKeys: []string{storetest.ContextKey(100)}, Limit: 100})
		if err != nil || len(p.Items) != 100 {
			b.Fatal(err, len(p.Items))
		}
	}
}
