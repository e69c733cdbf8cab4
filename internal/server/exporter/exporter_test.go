package exporter

import (
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/metrics"
	"github.com/clewsec/clew/internal/server/live"
)

func scrape(t *testing.T, cfg Config) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	New(cfg).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, _ := io.ReadAll(w.Body)
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, body)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(string(body)))
	if err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	return families
}

func config(samples ...*clewv1.MetricSample) Config {
	return Config{
		Version: "1.2", Go: "go1", Start: time.Unix(100, 0),
		Agents: func() []live.Agent {
			return []live.Agent{
				{Hello: &clewv1.Hello{AgentId: "a", Hostname: "h\xff"}, Connected: 1, LastSeen: time.Unix(200, 0), Health: &clewv1.Health{Metrics: samples}},
				{Hello: &clewv1.Hello{AgentId: "gone", Hostname: "g"}, LastSeen: time.Unix(150, 0), Health: &clewv1.Health{Metrics: samples}},
			}
		},
		Server: func(s *metrics.Set) { s.Add(metrics.IngestedBatches, 7, "stored") },
	}
}

func sample(id metrics.ID, v float64, labels ...string) *clewv1.MetricSample {
	return &clewv1.MetricSample{Name: metrics.Describe(id).Name, Labels: labels, Value: v}
}

// value finds the number of a metric whose labels have these values.
func value(t *testing.T, f map[string]*dto.MetricFamily, id metrics.ID, labels ...string) float64 {
	t.Helper()
	name := metrics.Describe(id).Name
	for _, m := range f[name].GetMetric() {
		got := map[string]bool{}
		for _, l := range m.Label {
			got[l.GetValue()] = true
		}
		all := true
		for _, l := range labels {
			all = all && got[l]
		}
		if all {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Errorf("no %s with %q", name, labels)
	return -1
}

func TestScrape(t *testing.T) {
	f := scrape(t, config(
		sample(metrics.KernelEvents, 5, "open", "filtered"), sample(metrics.KernelEvents, 6, "open", "sent"), sample(metrics.AgentPressure, 1),
	))
	for _, tt := range []struct {
		id     metrics.ID
		labels []string
		want   float64
	}{
		{metrics.KernelEvents, []string{"a", "h\uFFFD", "open", "filtered"}, 5},
		{metrics.KernelEvents, []string{"open", "sent"}, 6},
		{metrics.AgentPressure, []string{"a"}, 1},
		{metrics.AgentConnected, []string{"a"}, 1},
		{metrics.AgentConnected, []string{"gone"}, 0},
		{metrics.AgentLastSeen, []string{"gone"}, 150},
		{metrics.ServerInfo, []string{"1.2", "go1"}, 1},
		{metrics.IngestedBatches, []string{"stored"}, 7},
		{metrics.RefusedSamples, nil, 0},
	} {
		if got := value(t, f, tt.id, tt.labels...); got != tt.want {
			t.Errorf("%s %q is %g, want %g", metrics.Describe(tt.id).Name, tt.labels, got, tt.want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if f[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	// The types are those of the page.
	for _, d := range metrics.All() {
		if m := f[d.Name]; m != nil && !strings.EqualFold(m.GetType().String(), string(d.Type)) {
			t.Errorf("%s is a %s, declared a %s", d.Name, m.GetType(), d.Type)
		}
	}
}

// TestHostileAgent holds that what an agent sends makes neither series without
// bound nor a scrape that fails.
func TestHostileAgent(t *testing.T) {
	samples := []*clewv1.MetricSample{
		{Name: "nobody_declared_this", Value: 1},
		{Name: metrics.Describe(metrics.ServerStart).Name, Value: 1}, // the server's
		sample(metrics.AgentPressure, 1, "label that it does not have"),
		sample(metrics.AgentPressure, 1), sample(metrics.AgentPressure, 2), // twice
		sample(metrics.KernelEvents, 5, "ki\xffnd", strings.Repeat("x", 4*maxLabel)),
	}
	for i := range 3 * metrics.MaxRules {
		samples = append(samples, sample(metrics.RuleMatches, 1, fmt.Sprint("rule", i)))
	}
	f := scrape(t, config(samples...))
	if got := len(f["clew_agent_rule_matches_total"].GetMetric()); got != metrics.MaxRules+1 {
		t.Errorf("%d series of rules, want %d", got, metrics.MaxRules+1)
	}
	if got, want := value(t, f, metrics.RefusedSamples), float64(4+2*metrics.MaxRules-1); got != want {
		t.Errorf("%g samples refused, want %g", got, want)
	}
	if got := value(t, f, metrics.AgentPressure, "a"); got != 1 {
		t.Errorf("of two numbers %g counts", got)
	}
}
