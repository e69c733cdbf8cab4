package spool

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/wire"
)

const agent = "5e1d0a9c-0000-4000-8000-000000000001"

func open(t testing.TB, dir string, run uint64, change func(*Config)) *Spool {
	t.Helper()
	at := time.Unix(1000, 0)
	cfg := Config{
		Dir: dir, AgentID: agent, Run: run, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { at = at.Add(time.Second); return at },
	}
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// record has a body that compression does not make small.
func record(run, seq uint64) *event.SpoolRecord {
	r := rand.New(rand.NewPCG(run, seq))
	b := make([]byte, 40)
	for i := range b {
		b[i] = byte('a' + r.IntN(26))
	}
	return &event.SpoolRecord{Seq: seq, Context: &event.Context{Key: string(b)}}
}

// fill appends n batches of two records.
func fill(s *Spool, run uint64, n int) {
	for i := range n {
		s.Append(record(run, uint64(2*i+1)))
		s.Append(record(run, uint64(2*i+2)))
		s.Cut()
	}
}

// drain takes what Next gives and checks that its content is what was written.
func drain(t testing.TB, s *Spool) []*clewv1.Batch {
	t.Helper()
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var out []*clewv1.Batch
	for {
		b, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			return out
		}
		seq := b.FirstSeq
		err = dec.Decode(b.Payload, func(r *event.SpoolRecord) error {
			want := record(b.Run, seq)
			if r.Seq != seq || r.Context == nil || r.Context.Key != want.Context.Key {
				t.Fatalf("batch %s: record %d is not what was written", b.Id, seq)
			}
			seq++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if seq != b.LastSeq+1 || b.Id != wire.BatchID(agent, b.Run, b.FirstSeq) || b.AgentId != agent {
			t.Fatalf("batch %s: records %d to %d, last read %d", b.Id, b.FirstSeq, b.LastSeq, seq-1)
		}
		out = append(out, b)
	}
}

func ids(bs []*clewv1.Batch) []string {
	var out []string
	for _, b := range bs {
		out = append(out, strings.TrimPrefix(b.Id, agent+"-000000000000000"))
	}
	return out
}

func want(run, from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%d-%d", run, 2*i+1))
	}
	return out
}

func same(t testing.TB, got []*clewv1.Batch, wants ...[]string) {
	t.Helper()
	if w := slices.Concat(wants...); !slices.Equal(ids(got), w) {
		t.Fatalf("batches %v, want %v", ids(got), w)
	}
}

func ack(t testing.TB, s *Spool, bs ...*clewv1.Batch) {
	t.Helper()
	for _, b := range bs {
		if err := s.Ack(b.Id); err != nil {
			t.Fatal(err)
		}
	}
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	m, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOrderAndAcknowledgement(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1, func(c *Config) { c.SegmentBytes = 700 })
	fill(s, 1, 10)
	all := drain(t, s)
	same(t, all, want(1, 0, 10))
	if n := len(segments(t, dir)); n < 3 {
		t.Fatalf("%d segments, want several", n)
	}
	if st := s.Stats(); st.Records != 20 || st.Batches != 10 || st.Written != 20 {
		t.Errorf("stats %+v", st)
	}

	// Out of order: what is behind a hole is sent again.
	ack(t, s, all[0], all[1], all[3])
	s.Rewind()
	same(t, drain(t, s), want(1, 2, 10))
	if st := s.Stats(); st.Records != 16 {
		t.Errorf("%d records left, want 16", st.Records)
	}
	ack(t, s, all[2:8]...)
	ack(t, s, all[0]) // known already: nothing happens
	closed(t, s)

	// The next run begins with what the last one left.
	s = open(t, dir, 2, nil)
	if st := s.Stats(); st.Records != 4 || st.CutOff != 0 {
		t.Errorf("stats after reopening %+v", st)
	}
	fill(s, 2, 2)
	left := drain(t, s)
	same(t, left, want(1, 8, 10), want(2, 0, 2))
	ack(t, s, left[:2]...)
	if s.AckedOfRun() != 0 {
		t.Error("a batch of the last run counts as one of this run")
	}
	ack(t, s, left[2:]...)
	if s.AckedOfRun() != 2 || !s.Empty() {
		t.Errorf("%d acknowledged of this run, empty %v", s.AckedOfRun(), s.Empty())
	}
	closed(t, s)

	s = open(t, dir, 3, nil)
	same(t, drain(t, s))
	if m := segments(t, dir); len(m) != 0 {
		t.Errorf("segments left: %v", m)
	}
	closed(t, s)
}

func TestCutsBySize(t *testing.T) {
	s := open(t, t.TempDir(), 1, func(c *Config) { c.CutBytes = 80 })
	defer closed(t, s)
	for i := range uint64(4) {
		s.Append(record(1, i+1))
	}
	same(t, drain(t, s), want(1, 0, 2))
}

func TestRecordThatFitsNowhere(t *testing.T) {
	s := open(t, t.TempDir(), 1, nil)
	defer closed(t, s)
	s.Append(&event.SpoolRecord{Seq: 1, Context: &event.Context{Key: strings.Repeat("x", wire.MaxRecord)}})
	s.Append(record(1, 2))
	s.Cut()
	b, err := s.Next()
	if err != nil || b == nil || b.FirstSeq != 2 || b.Drops != 1 {
		t.Fatalf("batch %v, %v", b, err)
	}
	if l := s.TakeLost(); len(l) != 1 || l[0].Reason != ReasonTooLarge || l[0].Count != 1 {
		t.Errorf("lost %+v", l)
	}
}

// Beyond its limit the spool gives up the oldest, and records written are
// records kept plus records lost.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1, func(c *Config) { c.MaxBytes = 4096; c.SegmentBytes = 1024 })
	defer closed(t, s)
	fill(s, 1, 5)
	s.Next() // one is under way
	fill2 := func(from, n int) {
		for i := from; i < from+n; i++ {
			s.Append(record(1, uint64(2*i+1)))
			s.Append(record(1, uint64(2*i+2)))
			s.Cut()
		}
	}
	fill2(5, 60)
	got := drain(t, s)
	if got[len(got)-1].LastSeq != 130 {
		t.Errorf("the youngest is %d, want 130", got[len(got)-1].LastSeq)
	}
	lost := s.TakeLost()
	if len(lost) != 1 || lost[0].Reason != ReasonFull || lost[0].Where != "spool" || lost[0].From >= lost[0].To {
		t.Fatalf("lost %+v", lost)
	}
	if kept := uint64(2 * len(got)); kept+lost[0].Count != 130 {
		t.Errorf("%d kept and %d lost of 130", kept, lost[0].Count)
	}
	if st := s.Stats(); st.Bytes > 4096 || st.Lost[ReasonFull] != lost[0].Count {
		t.Errorf("stats %+v", st)
	}
	if s.TakeLost() != nil {
		t.Error("the same loss is told twice")
	}
	ack(t, s, got...)
	if !s.Empty() {
		t.Errorf("not empty: %+v", s.Stats())
	}
}

func TestRefused(t *testing.T) {
	s := open(t, t.TempDir(), 1, nil)
	defer closed(t, s)
	fill(s, 1, 3)
	bs := drain(t, s)
	ack(t, s, bs[0])
	if err := s.Refuse(bs[1].Id); err != nil {
		t.Fatal(err)
	}
	s.Rewind()
	same(t, drain(t, s), want(1, 2, 3))
	if l := s.TakeLost(); len(l) != 1 || l[0].Reason != ReasonRefused || l[0].Count != 2 {
		t.Errorf("lost %+v", l)
	}
}

// copyDir makes a directory with the same files.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// Wherever the agent is killed: what was written and not acknowledged comes
// again, in order and whole, and nothing that never was.
func TestKilledAnywhere(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1, func(c *Config) { c.SegmentBytes = 700 })
	var ends []int64 // size of the last segment after each batch in it
	fill(s, 1, 7)
	bs := drain(t, s)
	ack(t, s, bs[:3]...)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	last := s.segs[len(s.segs)-1]
	name := filepath.Base(s.path(last.index))
	for off, r := headerSize, (frameReader{r: s.w}); off < last.size; {
		f, ok, err := r.at(off, last.size)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		off = f.end
		ends = append(ends, off)
	}
	inLast := len(ends)
	if inLast == 0 || inLast > 4 {
		t.Fatalf("%d batches in the last segment", inLast)
	}
	before := 7 - inLast
	killed := copyDir(t, dir) // without the farewell of Close
	closed(t, s)

	for size := range last.size + 1 {
		dir := copyDir(t, killed)
		if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
			t.Fatal(err)
		}
		whole := before
		for _, e := range ends {
			if e <= size {
				whole++
			}
		}
		s := open(t, dir, 2, nil)
		fill(s, 2, 1)
		same(t, drain(t, s), want(1, 3, max(whole, 3)), want(2, 0, 1))
		closed(t, s)
		// Nor does what was cut off come back later.
		s = open(t, dir, 3, nil)
		same(t, drain(t, s), want(1, 3, max(whole, 3)), want(2, 0, 1))
		closed(t, s)
	}

	// A cursor that was half-written costs repetition, nothing else.
	for size := range int64(cursorSize) {
		dir := copyDir(t, killed)
		if err := os.Truncate(filepath.Join(dir, "acked"), size); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, 2, nil)
		got := drain(t, s)
		if all := ids(got); !slices.Equal(all[len(all)-4:], want(1, 3, 7)) {
			t.Fatalf("batches %v", all)
		}
		closed(t, s)
	}
}

// A random life: appends, acknowledgements, breaks, kills. Every batch that was
// written is acknowledged in the end; none that is new comes from nowhere.
func TestRandomLife(t *testing.T) {
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(1, seed))
		dir := t.TempDir()
		written, acked := map[string]bool{}, map[string]bool{}
		for run := uint64(1); run < 6; run++ {
			s := open(t, dir, run, func(c *Config) { c.SegmentBytes = 300 + int64(rnd.IntN(1000)) })
			seq := uint64(0)
			var under []*clewv1.Batch
			for range 60 {
				switch rnd.IntN(5) {
				case 0, 1:
					first := seq + 1
					for range 1 + rnd.IntN(3) {
						seq++
						s.Append(record(run, seq))
					}
					s.Cut()
					written[wire.BatchID(agent, run, first)] = true
				case 2:
					b, err := s.Next()
					if err != nil {
						t.Fatal(err)
					}
					if b != nil {
						if !written[b.Id] {
							t.Fatalf("seed %d: batch %s was never written", seed, b.Id)
						}
						under = append(under, b)
					}
				case 3:
					if len(under) > 0 {
						i := rnd.IntN(len(under))
						acked[under[i].Id] = true
						ack(t, s, under[i])
						under = slices.Delete(under, i, i+1)
					}
				case 4:
					if rnd.IntN(5) == 0 {
						s.Rewind()
						under = nil
					}
				}
			}
			kill := copyDir(t, dir)
			closed(t, s)
			dir = kill
		}
		s := open(t, dir, 9, nil)
		for _, b := range drain(t, s) {
			acked[b.Id] = true
			ack(t, s, b)
		}
		if !s.Empty() || len(acked) != len(written) {
			t.Fatalf("seed %d: %d written, %d acknowledged, %+v", seed, len(written), len(acked), s.Stats())
		}
		closed(t, s)
	}
}

// A byte that changes on the disk costs the batch it is in, or, where the
// lengths no longer lead on, the rest of its segment; never more, and no batch
// with other content.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1, nil)
	fill(s, 1, 4)
	closed(t, s)
	path := segments(t, dir)[0]
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	oneLost := 0
	for i := 0; i < len(good); i += 3 {
		dir := copyDir(t, dir)
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Dir: dir, AgentID: agent, Run: 2, Log: slog.New(slog.DiscardHandler)})
		var newer *NewerError
		if errors.As(err, &newer) && i == len(magic) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got := drain(t, s) // checks each batch's content
		if len(got) == 4 {
			t.Fatalf("byte %d: damage not seen", i)
		}
		if len(got) == 3 {
			oneLost++
		}
		st := s.Stats()
		if st.CutOff == 0 && st.Lost[ReasonDamaged] == 0 {
			t.Fatalf("byte %d: damage not counted", i)
		}
		closed(t, s)
	}
	if oneLost < len(good)/4 {
		t.Errorf("only %d of %d changes cost a single batch", oneLost, len(good)/3)
	}
}

// A full disk costs what comes while it is full, and is over when there is
// room again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("a small file system cannot be mounted without privilege:", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s := open(t, dir, 1, func(c *Config) { c.SegmentBytes = 8 << 10 })
	n := 0
	for ; n < 2000 && s.Stats().Lost[ReasonWrite] == 0; n++ {
		s.Append(record(1, uint64(2*n+1)))
		s.Append(record(1, uint64(2*n+2)))
		s.Cut()
	}
	st := s.Stats()
	if st.Lost[ReasonWrite] == 0 || !st.Failing {
		t.Fatalf("the disk is not full: %+v", st)
	}
	got := drain(t, s)
	if uint64(2*len(got))+st.Lost[ReasonWrite] != uint64(2*n) {
		t.Errorf("%d batches kept, %d records lost of %d", len(got), st.Lost[ReasonWrite], 2*n)
	}
	ack(t, s, got[:len(got)/2]...)
	s.Sync() // lets go of the files that were removed
	s.Append(record(1, uint64(2*n+1)))
	s.Cut()
	if s.Stats().Failing {
		t.Error("there is room again, and nothing is written")
	}
	s.Rewind()
	if left := drain(t, s); len(left) != len(got)-len(got)/2+1 {
		t.Errorf("%d batches left, want %d", len(left), len(got)-len(got)/2+1)
	}
	closed(t, s)
}

func TestNewer(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "0000000000000001"+suffix), []byte("clewspl\x02rest"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Config{Dir: dir, AgentID: agent, Run: 1, Log: slog.New(slog.DiscardHandler)})
	var newer *NewerError
	if !errors.As(err, &newer) || newer.Version != 2 {
		t.Errorf("error %v", err)
	}
}

func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	s := open(f, dir, 1, nil)
	fill(s, 1, 2)
	closed(f, s)
	good, err := os.ReadFile(segments(f, dir)[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add([]byte("clewspl\x01"))
	f.Add([]byte("clewspl\x01\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		if ok, err := checkHeader(r, "x", int64(len(b))); !ok || err != nil {
			return
		}
		frames := frameReader{r: r}
		for off := headerSize; ; {
			fr, ok, _, err := frames.next(off, int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				if fr.off < off || fr.off > int64(len(b)) {
					t.Fatalf("ends at %d of %d", fr.off, len(b))
				}
				return
			}
			if fr.end <= off {
				t.Fatalf("frame at %d ends at %d", off, fr.end)
			}
			off = fr.end
			if batch, err := fr.batch(); err == nil {
				again, err := appendFrame(nil, batch, fr.records, fr.atNS)
				if err != nil {
					t.Fatal(err)
				}
				if f, ok, err := (&frameReader{r: bytes.NewReader(again)}).at(0, int64(len(again))); err != nil || !ok || f.records != fr.records {
					t.Fatal("a frame that was read cannot be written")
				}
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	s := open(b, b.TempDir(), 1, nil)
	defer s.Close()
	rec := record(1, 1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		rec.Seq = uint64(i + 1)
		s.Append(rec)
	}
}
