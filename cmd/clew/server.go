package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/buildinfo"
	"github.com/clewsec/clew/internal/server"
	"github.com/clewsec/clew/web"
)

func newServerCmd() *cobra.Command {
	cfg := server.Config{Version: buildinfo.Read().Version, Now: time.Now}
	var level string
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Hold the data and serve page and API; clew up starts it",
		Long: `Hold the data and serve page and API; clew up starts it.

The process gives up root, as user clew where there is one, and shuts itself
into a sandbox: it reads and writes server/ and run/ below the data directory
and nothing else of the host.`,
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, _, err := newLogger(cmd, level)
			if err != nil {
				return usageError(cmd, err)
			}
			cfg.Log = log
			if files, ok := web.Dist(); ok {
				cfg.Page = files
			}
			s, err := server.New(cfg)
			if err != nil {
				return usageError(cmd, err)
			}
			return s.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Data, "data", defaultData(), "data directory ($CLEW_DATA)")
	f.StringVar(&cfg.Listen, "listen", defaultListen, "address of the page and the API; empty for none")
	f.StringVar(&cfg.MetricsListen, "metrics-listen", "", "address of /metrics for Prometheus, without a login; empty for none")
	f.StringArrayVar(&cfg.Hosts, "host", nil, "further host name the page is called by (may be repeated)")
	f.DurationVar(&cfg.Retention, "retention", 30*24*time.Hour, "how long events are kept; 0 for ever")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}
