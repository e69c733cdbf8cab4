package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
)

// Count says what became of the events of one work, done once while it was
// watched. The rest of the host is in it, too.
type Count struct {
	Name     string             `json:"name"`
	Setup    string             `json:"setup"`
	Ops      int                `json:"ops"`
	Sent     float64            `json:"sent"`     // by the kernel side to the agent
	Filtered float64            `json:"filtered"` // in the kernel
	Ignored  float64            `json:"ignored"`  // in the kernel
	Lost     map[string]float64 `json:"lost"`     // by reason
	Kept     float64            `json:"kept"`     // written to the spool
	// BPFNS is the run time of all programs per operation, Programs that of
	// each in all; 0 and empty where the kernel does not count it.
	BPFNS    float64            `json:"bpfNs"`
	Programs map[string]float64 `json:"programs"`
}

func (c Count) lost() (n float64) {
	for _, v := range c.Lost {
		n += v
	}
	return n
}

func (c Count) lostText() string {
	if len(c.Lost) == 0 {
		return "0"
	}
	var parts []string
	for reason, n := range c.Lost {
		parts = append(parts, fmt.Sprintf("%.0f %s", n, reason))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// count does each work once and looks at the metrics before and after. The
// kernel's counting of run time, which costs a little itself, is on meanwhile.
func count(ctx context.Context, cfg Config, setup Setup, series []*samples) (out []Count, err error) {
	stats, err := ebpf.EnableStats(bpfStatsRunTime)
	if err == nil { // v5.8, CAP_SYS_ADMIN; without it there are no run times
		defer func() { err = errors.Join(err, stats.Close()) }()
	}
	err = withStarted(ctx, setup, func(int) error {
		before, err := settled(ctx, setup.Metrics, nil)
		if err != nil {
			return err
		}
		for _, s := range series {
			r, err := runWorker(ctx, cfg, s)
			if err != nil {
				return err
			}
			after, err := settled(ctx, setup.Metrics, before)
			if err != nil {
				return err
			}
			out = append(out, difference(s.name, setup.Name, r.Ops, before, after))
			before = after
		}
		return nil
	})
	return out, err
}

const bpfStatsRunTime = 0 // BPF_STATS_RUN_TIME

func difference(name, setup string, ops int, before, after map[string]float64) Count {
	c := Count{Name: name, Setup: setup, Ops: ops, Lost: map[string]float64{}, Programs: map[string]float64{}}
	for series, v := range after {
		v -= before[series]
		metric, labels, _ := strings.Cut(series, "{")
		switch metric {
		case "clew_agent_kernel_events_total":
			switch label(labels, "outcome") {
			case "sent":
				c.Sent += v
			case "filtered":
				c.Filtered += v
			case "ignored":
				c.Ignored += v
			}
		case "clew_agent_lost_events_total":
			if v > 0 {
				c.Lost[label(labels, "reason")] += v
			}
		case "clew_agent_kept_events_total":
			c.Kept += v
		case "clew_agent_bpf_run_seconds_total":
			if v > 0 {
				c.Programs[label(labels, "program")] += v * 1e9
				c.BPFNS += v * 1e9 / float64(max(1, ops))
			}
		}
	}
	return c
}

// label is the value of a label in a series' name.
func label(labels, name string) string {
	_, rest, ok := strings.Cut(labels, name+`="`)
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// settleTime is how long is waited for numbers that no longer change.
const settleTime = 30 * time.Second

// settled scrapes until the agent has sent numbers that are newer than before
// and what the kernel sent has been read.
func settled(ctx context.Context, addr string, before map[string]float64) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last error
	fresh := 0
	records := total(before, "clew_agent_stream_records_total")
	for {
		m, err := scrape(ctx, addr)
		if err != nil {
			last = err
		} else if n := total(m, "clew_agent_stream_records_total"); n > records {
			// Those of the work may still be under way with the first.
			records = n
			if fresh++; fresh == 2 {
				return m, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("metrics at %s do not change: %w", addr, errors.Join(ctx.Err(), last))
		case <-tick.C:
		}
	}
}

func total(m map[string]float64, metric string) (n float64) {
	for series, v := range m {
		if name, _, _ := strings.Cut(series, "{"); name == metric {
			n += v
		}
	}
	return n
}

// maxScrape bounds what is read of an answer.
const maxScrape = 16 << 20

func scrape(ctx context.Context, addr string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxScrape))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	return parseMetrics(string(body)), nil
}

// parseMetrics reads the lines of the text format: series and number.
func parseMetrics(text string) map[string]float64 {
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			out[line[:i]] = v
		}
	}
	return out
}
