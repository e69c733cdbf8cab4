package pipeline_test

import (
	"slices"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/testkit/streamtest"
)

// TestDepth holds that the processes of a hot context are told once, with the
// one that started it and without the daemon above it, and that what the flight
// recorder has of them is kept, is no signal, and is not mistaken for news.
func TestDepth(t *testing.T) {
	b, init := streamtest.New()
	httpd := b.Spawn(init, "/usr/sbin/httpd", nil)
	sh := b.Spawn(httpd, "/bin/sh", nil)
	calm := len(b.Records)
	evil := b.Spawn(sh, "/tmp/evil1", nil) // the context is hot from here on
	hot := len(b.Records)
	last := b.Records[hot-1]
	for i, p := range []*streamtest.Proc{sh, httpd, {PID: 99999, Start: 1}} {
		b.Records = append(b.Records, &event.StreamRecord{
			Seq: last.Seq + uint64(i) + 1, BootNS: last.BootNS - 1000,
			Event: &event.Event{
				Kind: event.KindOpen, PID: p.PID, StartNS: p.Start, BootNS: last.BootNS - 1000, Flags: event.FlagRecorded,
				Open: &event.Open{File: event.File{Path: "evil1", PathSource: "recorder"}},
			},
		})
	}
	_, p := run(t, b.Records[:calm])
	if tasks, ok := p.Depth(); len(tasks) > 0 {
		t.Errorf("hot while nothing happened: %v, %t", tasks, ok)
	}
	records, p := run(t, b.Records)
	tasks, ok := p.Depth()
	var pids []uint32
	for _, task := range tasks {
		pids = append(pids, task.PID)
	}
	if !ok || !slices.Equal(pids, []uint32{sh.PID, evil.PID}) {
		t.Errorf("hot: %v, %t, want %d and %d", pids, ok, sh.PID, evil.PID)
	}
	if tasks, ok := p.Depth(); ok {
		t.Errorf("told twice: %v", tasks)
	}
	var kept []*event.Event
	for _, r := range records {
		if r.Event != nil && r.Event.Open != nil {
			kept = append(kept, r.Event)
		}
	}
	if len(kept) != 1 || kept[0].PID != sh.PID || !slices.Equal(kept[0].Reasons, []string{pipeline.KeptRecorded}) || len(kept[0].Signals) > 0 || len(kept[0].ContextKeys) == 0 {
		t.Errorf("kept of the recorder: %+v", kept)
	}
	if s := p.Stats(); s.Recorded != 1 || s.Strangers != 1 {
		t.Errorf("%d recorded, %d strangers", s.Recorded, s.Strangers)
	}
}
