package ruleset_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
)

// TestReload replaces the set 200 times while events flow: every event is
// evaluated, by one whole set, and variables are kept.
func TestReload(t *testing.T) {
	const reloads = 200
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	compile := func(n int) *ruleset.Set {
		set, report, err := ruleset.Load(ruleset.Config{Schema: schema, OwnRatesOnly: true}, []ruleset.File{{Name: "x.policy", Data: fmt.Appendf(nil, `
rules:
  - {id: a%d, expression: exec.uid == 7}
  - {id: note, silent: true, expression: exec.uid == 1, actions: [{set: {name: seen, value: true}}]}
  - {id: kept, expression: 'exec.uid == 7 && ${seen}'}
  - {id: b%d, priority: -1, expression: exec.uid == 7}
`, n, n)}})
		if err != nil || report.Failed() {
			t.Errorf("load: %v, %+v", err, report)
			return nil
		}
		return set
	}
	next := make(chan *ruleset.Set)
	go func() {
		defer close(next)
		for n := 1; n <= reloads; n++ {
			next <- compile(n)
		}
	}()
	set, version, events := compile(0), 0, 0
	exec := func(uid uint32) string {
		e := &event.Event{Kind: event.KindExec, TimeNS: int64(events), Exec: &event.Exec{}, Proc: &event.Process{UID: uid}}
		return ids(set.Eval(e, nil))
	}
	exec(1)
	for {
		select {
		case s, ok := <-next:
			if !ok {
				if version != reloads || events < reloads {
					t.Fatalf("%d reloads, %d events", version, events)
				}
				return
			}
			if s == nil {
				t.FailNow()
			}
			s.Adopt(set)
			set = s
			version++
		default:
		}
		events++
		if got, want := exec(7), fmt.Sprintf("a%d kept b%d", version, version); got != want {
			t.Fatalf("event %d: got %q, want %q", events, got, want)
		}
	}
}

// traffic makes events as a host has them. One in fifty is about something
// that some rule is about, too.
func traffic(t testing.TB, n int) []*event.Event {
	t.Helper()
	rng := rand.New(rand.NewPCG(2, 2))
	zipf := rand.NewZipf(rng, 1.2, 4, 5000)
	out := make([]*event.Event, 0, n)
	for i := range n {
		name := fmt.Sprintf("tool%d", rng.IntN(500))
		file := fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%d.so.6", rng.IntN(2000))
		if i%50 == 0 {
			name, file = fmt.Sprint("prog", zipf.Uint64()), fmt.Sprint("/etc/conf", zipf.Uint64())
		}
		above := "lineage: [{exec: /usr/bin/" + name + ", uid: 1000}, {exec: /usr/bin/make}, {exec: /usr/bin/bash}, {exec: /usr/sbin/sshd}]}"
		switch i % 4 {
		case 0:
			out = append(out, build(t, "{kind: exec, "+above))
		case 1:
			out = append(out, build(t, "{kind: connect, addr: {ip: 10.1.2.3, port: 443}, "+above))
		default:
			out = append(out, build(t, "{kind: open, flags: [O_RDWR], file: {path: "+file+"}, "+above))
		}
	}
	return out
}

// TestGrowth holds that an event costs ten thousand rules hardly more
// conditions than a hundred: those that hold, and few that nearly do.
func TestGrowth(t *testing.T) {
	events := append(recorded(t), traffic(t, 1000)...)
	vain, matched := map[int]float64{}, map[int]int{}
	for _, n := range []int{100, 10_000} {
		set := loadRules(t, untuned(n))
		for _, e := range events {
			matched[n] += len(set.Eval(e, nil))
		}
		for _, r := range set.Rules() {
			for _, c := range set.Conditions(r) {
				vain[n] += float64(c.Tried-c.Matched) / float64(len(events))
			}
		}
		quiet := 0
		for _, e := range events {
			if len(set.Eval(e, nil)) > 0 {
				continue
			}
			quiet++
			if got := testing.AllocsPerRun(5, func() { set.Eval(e, nil) }); got != 0 {
				t.Errorf("%d rules: %v allocations for an event that matches nothing: %s by %s", n, got, e.Kind, e.Proc.File.Path)
			}
		}
		if quiet == 0 {
			t.Errorf("%d rules: every event matches", n)
		}
	}
	if matched[10_000] == 0 {
		t.Error("no rule matches anything")
	}
	if vain[10_000] > 12 {
		t.Errorf("an event tries %.1f of 10,000 rules in vain, %.1f of 100", vain[10_000], vain[100])
	}
	t.Logf("tried in vain per event: %.2f of 10,000 rules, %.2f of 100; %d matches of %d events", vain[10_000], vain[100], matched[10_000], len(events))
}

// BenchmarkRealistic is about rules that people run, BenchmarkUntuned about
// rules that raise signals all the time.
func BenchmarkRealistic(b *testing.B) {
	benchmarkRules(b, func(n int) string { return realistic(b, n) })
}

func BenchmarkUntuned(b *testing.B) { benchmarkRules(b, untuned) }

func benchmarkRules(b *testing.B, write func(int) string) {
	events := recorded(b)
	for _, n := range []int{10, 100, 1000, 10_000} {
		set := loadRules(b, write(n))
		runtime.GC() // what loading left behind is not the events' cost
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			var out []ruleset.Match
			i, before := 0, matched(set)
			b.ReportAllocs()
			start := cpuTime()
			for b.Loop() {
				out = set.Eval(events[i], out[:0])
				if i++; i == len(events) {
					i = 0
				}
			}
			// On a machine that others use the clock says little.
			b.ReportMetric(float64(cpuTime()-start)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(matched(set)-before)/float64(b.N), "matches/op")
		})
	}
}

// matched is how often conditions held so far, whether or not a signal came of
// it.
func matched(set *ruleset.Set) (n uint64) {
	for _, r := range set.Rules() {
		for _, c := range set.Conditions(r) {
			n += c.Matched
		}
	}
	return n
}

// cpuTime is what the process has used of processors so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
