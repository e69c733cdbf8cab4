package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/store/storetest"
)

// TestMetrics holds that Prometheus finds what the server and its agents count
// on a listener of its own, that the numbers move, and that nothing else is
// there.
func TestMetrics(t *testing.T) {
	data := shortDir(t)
	f := start(t, data)
	get := func(path, host string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+f.scrape+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	status, before := get("/metrics", "")
	if status != 200 || !strings.Contains(before, "\nclew_server_ingested_batches_total{result=\"stored\"} 0\n") {
		t.Fatalf("status %d, before anything came:\n%s", status, before)
	}
	p := mustConnect(t, data, hello(storetest.Agent1, 7))
	p.mustPush(batch(t, storetest.Agent1, 7, attackRecords(7)))
	p.health(&clewv1.Health{RulesLoaded: 3, Metrics: []*clewv1.MetricSample{
		{Name: "clew_agent_lost_events_total", Labels: []string{"open", "ring_full_bulk"}, Value: 12},
	}})
	// Health without numbers leaves the last ones.
	p.health(&clewv1.Health{RulesLoaded: 3})
	eventually(t, func() string {
		_, now := get("/metrics", "")
		for _, want := range []string{
			"\nclew_server_ingested_batches_total{result=\"stored\"} 1\n",
			"kind=\"open\",reason=\"ring_full_bulk\"} 12\n",
			"\nclew_server_stored_events ",
		} {
			if !strings.Contains(now, want) {
				return "no " + want + " in\n" + now
			}
		}
		return ""
	})
	for _, path := range []string{"/", "/login", "/clew.v1.FleetService/GetStatus"} {
		if status, _ := get(path, ""); status != 404 {
			t.Errorf("%s answers with %d", path, status)
		}
	}
	if status, _ := get("/metrics", "attacker.example"); status != http.StatusMisdirectedRequest {
		t.Errorf("another host's name gets %d", status)
	}
}
