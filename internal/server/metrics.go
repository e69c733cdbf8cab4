package server

import (
	"context"
	"net/http"

	"github.com/clewsec/clew/internal/buildinfo"
	"github.com/clewsec/clew/internal/metrics"
	"github.com/clewsec/clew/internal/server/auth"
	"github.com/clewsec/clew/internal/server/exporter"
	"github.com/clewsec/clew/internal/server/ingest"
)

// metricsHandler answers Prometheus on a listener of its own, so that nothing
// else of the server can be reached without a login there.
func (s *Server) metricsHandler(p *parts, in *ingest.Handler) http.Handler {
	cfg := s.cfg
	// What a browser was talked into asking carries another name.
	guard := auth.New(auth.Config{Listen: cfg.MetricsListen, Hosts: append([]string{s.metrics}, cfg.Hosts...)}, p.control, cfg.Log)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", exporter.New(exporter.Config{
		Agents: p.agents.List, Version: cfg.Version, Go: buildinfo.Read().Go, Start: cfg.Now(),
		Server: func(set *metrics.Set) {
			c := &in.Counters
			set.Add(metrics.IngestedBatches, float64(c.Batches.Load()), "stored")
			set.Add(metrics.IngestedBatches, float64(c.Duplicates.Load()), "duplicate")
			set.Add(metrics.IngestedBatches, float64(c.Malformed.Load()), "malformed")
			set.Add(metrics.IngestedBatches, float64(c.Failed.Load()), "failed")
			set.Add(metrics.IngestedRecords, float64(c.Records.Load()))
			set.Add(metrics.Stories, float64(p.stories.Len()))
			// A store that does not answer costs two numbers, not the scrape.
			if st, err := p.store.Stats(context.Background()); err != nil {
				cfg.Log.Debug("metrics: store", "error", err)
			} else {
				set.Add(metrics.StoredEvents, float64(st.Events))
				set.Add(metrics.StoredBytes, float64(st.Bytes))
			}
		},
	}))
	return guard.CheckHost(mux)
}
