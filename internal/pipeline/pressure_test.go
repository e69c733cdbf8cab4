package pipeline_test

import (
	"fmt"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/testkit/streamtest"
)

// TestPressure holds that under pressure a hot context loses what is kept only
// because it is hot, that each loss is said with its kind, and that signals and
// the baseline stay.
func TestPressure(t *testing.T) {
	b, init := streamtest.New()
	httpd := b.Spawn(init, "/usr/sbin/httpd", nil)
	sh := b.Spawn(httpd, "/bin/sh", nil)
	b.Spawn(sh, "/tmp/evil1", nil) // the context is hot from here on
	b.Read(sh, "/srv/before")
	press := func(level int64) {
		last := b.Records[len(b.Records)-1]
		b.Records = append(b.Records, &event.StreamRecord{Seq: last.Seq + 1, BootNS: last.BootNS + 1, Pressure: &event.Pressure{Level: level}})
		b.Sleep(2)
	}
	press(1)
	b.Read(sh, "/srv/during1")
	b.Read(sh, "/srv/during2")
	b.Write(sh, "/etc/during") // the baseline wants it
	b.Spawn(sh, "/tmp/evil2", nil)
	press(1)
	b.Read(sh, "/srv/during3")
	press(0)
	b.Read(sh, "/srv/after")

	records, p := run(t, b.Records)
	var got []string
	for _, r := range records {
		switch {
		case r.Event != nil && r.Event.Open != nil:
			got = append(got, r.Event.Open.File.Path)
		case r.Event != nil && len(r.Event.Signals) > 0:
			got = append(got, "signal")
		case r.Lost != nil:
			l := r.Lost
			got = append(got, fmt.Sprintf("%s %s %d %s %t", l.Kind, l.Reason, l.Count, l.Where, l.From < l.To))
		}
	}
	want := "[signal /srv/before /etc/during signal open memory_pressure 2 agent true open memory_pressure 1 agent true /srv/after]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if s := p.Stats(); s.GivenUp != 3 {
		t.Errorf("%d events were given up", s.GivenUp)
	}
}
