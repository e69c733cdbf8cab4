// Package exporter serves the numbers of internal/metrics to Prometheus: the
// server's own and those that agents sent with their health. What an agent
// sends is checked against the declarations, so that a broken or hostile agent
// cannot make series without bound.
package exporter

import (
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/metrics"
	"github.com/clewsec/clew/internal/server/live"
)

// maxLabel is the longest value of a label, in bytes.
const maxLabel = 256

// Config joins the exporter with what it tells of.
type Config struct {
	Agents  func() []live.Agent
	Version string
	Go      string // version of Go it was built with
	Start   time.Time
	// Server adds what the server counts. It is called for every scrape, from
	// any goroutine.
	Server func(*metrics.Set)
}

// New returns a handler that answers a scrape.
func New(cfg Config) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(cfg), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		// What can be told is told.
		ErrorHandling: promhttp.ContinueOnError,
		// One scrape looks at every agent; nobody needs many at once.
		MaxRequestsInFlight: 4,
	})
}

type collector struct {
	cfg   Config
	descs []*prometheus.Desc // by metrics.ID
	ids   map[string]metrics.ID
}

func newCollector(cfg Config) *collector {
	c := &collector{cfg: cfg, ids: map[string]metrics.ID{}}
	for _, d := range metrics.All() {
		labels := d.Labels
		if d.Side == metrics.Agent {
			labels = append(append([]string{}, metrics.AgentLabels...), d.Labels...)
			c.ids[d.Name] = d.ID
		}
		c.descs = append(c.descs, prometheus.NewDesc(d.Name, d.Help, labels, nil))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	put := func(id metrics.ID, v float64, labels ...string) {
		t := prometheus.GaugeValue
		if metrics.Describe(id).Type == metrics.Counter {
			t = prometheus.CounterValue
		}
		m, err := prometheus.NewConstMetric(c.descs[id], t, v, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(c.descs[id], err)
		}
		out <- m
	}
	refused := 0
	for _, a := range c.cfg.Agents() {
		who := []string{a.Hello.AgentId, valid(a.Hello.Hostname)}
		connected := 0.0
		if a.Connected > 0 {
			connected = 1
		}
		put(metrics.AgentConnected, connected, who...)
		put(metrics.AgentLastSeen, seconds(a.LastSeen), who...)
		if a.Connected == 0 || a.Health == nil {
			continue // old numbers would look like new ones
		}
		good, bad := c.check(a.Health.Metrics)
		refused += bad
		for _, s := range good {
			put(s.ID, s.Value, append(who[:2:2], s.Labels...)...)
		}
	}
	put(metrics.RefusedSamples, float64(refused))
	put(metrics.ServerInfo, 1, c.cfg.Version, c.cfg.Go)
	put(metrics.ServerStart, seconds(c.cfg.Start))
	var set metrics.Set
	c.cfg.Server(&set)
	for _, s := range set.Samples {
		put(s.ID, s.Value, s.Labels...)
	}
}

// check keeps what is declared, and of a metric no more series than declared,
// each once: a double would spoil the whole scrape.
func (c *collector) check(in []*clewv1.MetricSample) (good []metrics.Sample, bad int) {
	type series struct {
		id     metrics.ID
		labels [4]string
	}
	seen := make(map[series]bool, len(in))
	count := map[metrics.ID]int{}
	for _, s := range in {
		id, ok := c.ids[s.Name]
		d := metrics.Describe(id)
		key := series{id: id}
		if !ok || len(s.Labels) != len(d.Labels) || len(s.Labels) > len(key.labels) || count[id] >= d.Series {
			bad++
			continue
		}
		for i, l := range s.Labels {
			key.labels[i] = valid(l)
		}
		if seen[key] {
			bad++
			continue
		}
		seen[key] = true
		count[id]++
		good = append(good, metrics.Sample{ID: id, Value: s.Value, Labels: key.labels[:len(s.Labels):len(s.Labels)]})
	}
	return good, bad
}

// valid makes a label's value of a text that somebody else wrote.
func valid(s string) string {
	if len(s) > maxLabel {
		s = s[:maxLabel]
	}
	if utf8.ValidString(s) {
		return s
	}
	out := make([]rune, 0, len(s))
	for _, r := range s {
		out = append(out, r)
	}
	return string(out)
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
