package live

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/server/story"
	"github.com/clewsec/clew/internal/store"
	"github.com/clewsec/clew/internal/store/sqlite"
	"github.com/clewsec/clew/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fill(t testing.TB, s store.Store, st *Stories, recs []*event.SpoolRecord) {
	t.Helper()
	for i := 0; i < len(recs); i += 1000 {
		part := recs[i:min(i+1000, len(recs))]
		b := storetest.Batch(storetest.Agent1, 7, part)
		if _, err := s.Append(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		st.Fold(storetest.Agent1, part)
	}
}

func open(t testing.TB) store.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Config{Dir: t.TempDir()}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// oneContext puts n events into one context that was opened once, with a chain
// of parents.
func oneContext(n int) []*event.SpoolRecord {
	recs := append([]*event.SpoolRecord{
		{RunStart: &event.RunStart{Run: 7, HostID: storetest.Agent1, Hostname: "web-1", At: storetest.Epoch}},
		{Context: &event.Context{Key: "sudo_1", Layer: "sudo", Priority: 48, At: storetest.Epoch, Episodic: true}},
	}, storetest.Events(7, 4, n)...)
	for i, r := range recs {
		r.Seq = uint64(i + 1)
		if r.Event != nil {
			r.Event.ContextKeys = []string{"sudo_1"}
		}
		if p := r.ProcessNode; p != nil && p.ID.Seq > 4 {
			p.ParentID = event.Ref{Run: 7, Seq: p.ID.Seq / 8 * 4}
			p.PPID = uint32(1000 + p.ParentID.Seq/4)
		}
	}
	return recs
}

// TestSource holds the source over a store to the one in memory.
func TestSource(t *testing.T) {
	s := open(t)
	fresh := NewSource(s)
	cached := NewSource(s)
	recs := oneContext(800)
	fill(t, s, NewStories(cached, time.Now), recs)
	mem := story.NewMemory()
	for _, r := range recs {
		mem.Add(storetest.Agent1, r)
	}
	for name, src := range map[string]*Source{"fresh": fresh, "cached": cached} {
		for _, limit := range []int{1, 799, 800, 5000} {
			for _, keys := range [][]string{{"sudo_1"}, {"none"}, many(1200)} {
				want, wantMore, err := mem.ContextEvents(storetest.Agent1, keys, storetest.Epoch, 1<<63-1, limit)
				if err != nil {
					t.Fatal(err)
				}
				got, more, err := src.ContextEvents(storetest.Agent1, keys, storetest.Epoch, 1<<63-1, limit)
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != len(want) || more != wantMore {
					t.Fatalf("%s, limit %d, %d keys: %d events, more %v; want %d, %v", name, limit, len(keys), len(got), more, len(want), wantMore)
				}
				for i := range got {
					if got[i].Ref() != want[i].Ref() {
						t.Fatalf("%s, limit %d: event %d is %v, want %v", name, limit, i, got[i].Ref(), want[i].Ref())
					}
				}
			}
		}
		refs := []event.Ref{{Run: 7, Seq: 796}, {Run: 7, Seq: 5}, {}}
		want, err := mem.Nodes(storetest.Agent1, refs)
		if err != nil {
			t.Fatal(err)
		}
		got, err := src.Nodes(storetest.Agent1, refs)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) || len(got) < 5 {
			t.Errorf("%s: %d nodes, want %d", name, len(got), len(want))
		}
		for r := range want {
			if got[r] == nil || got[r].ParentID != want[r].ParentID {
				t.Errorf("%s: node %v is %v", name, r, got[r])
			}
		}
	}
}

func many(n int) (keys []string) {
	for i := range n {
		keys = append(keys, fmt.Sprintf("sudo_%d", i))
	}
	return keys
}

func TestTailSkips(t *testing.T) {
	tail := NewTail()
	w := tail.Watch(func(f store.Found) bool { return f.Event.Seq%2 == 0 })
	var found []store.Found
	for i := range uint64(2*tailBuffer + 10) {
		found = append(found, store.Found{Event: &event.Event{Seq: i}})
	}
	tail.Publish(found)
	<-w.Ready()
	items, skipped := w.Take()
	if len(items) != tailBuffer || skipped != 5 {
		t.Errorf("%d items, %d skipped", len(items), skipped)
	}
	tail.Publish(found[1:2])
	select {
	case <-w.Ready():
		t.Error("told of an event it does not want")
	default:
	}
	w.Close()
	tail.Publish(found)
	if items, _ := w.Take(); len(items) != 0 {
		t.Error("collects after it was closed")
	}
}

// BenchmarkStory is what the server does for the page of a story with as many
// events as are drawn at most.
func BenchmarkStory(b *testing.B) {
	s := open(b)
	st := NewStories(NewSource(s), time.Now)
	fill(b, s, st, oneContext(20_000))
	id := st.Heads(0)[0].ID()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := st.Build(id, story.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
