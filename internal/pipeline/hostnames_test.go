package pipeline_test

import (
	"slices"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/testkit/streamtest"
)

// TestHostnames holds that a connection tells the names that its address was
// asked for by before, in the same network namespace.
func TestHostnames(t *testing.T) {
	b, init := streamtest.New()
	inside := func(netns uint32) func(*event.Process) {
		return func(p *event.Process) { p.NetNS = netns }
	}
	p := b.Spawn(init, "/usr/bin/curl", []string{"curl", "https://example.org"}, inside(7))
	other := b.Spawn(init, "/usr/bin/wget", []string{"wget"}, inside(8))
	b.Answer(p, 7, "Example.org", "203.0.113.5")
	b.Connect(p, "203.0.113.5:443")
	b.Connect(p, "203.0.113.6:443")
	b.Connect(other, "203.0.113.5:443")
	out, _ := run(t, b.Records)
	var got [][]string
	for _, r := range out {
		if r.Event != nil && r.Event.Connect != nil {
			got = append(got, r.Event.Connect.Addr.Hostname)
		}
		if r.Event != nil && r.Event.DNS != nil {
			t.Error("an answer is kept that nobody wanted")
		}
	}
	if want := [][]string{{"example.org"}, nil, nil}; !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%v, want %v", got, want)
	}
}
