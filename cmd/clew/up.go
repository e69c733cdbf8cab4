package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/agent"
	"github.com/clewsec/clew/internal/buildinfo"
	"github.com/clewsec/clew/internal/demo"
)

// defaultListen is where the page and the API are unless told otherwise.
const defaultListen = "127.0.0.1:8844"

func newUpCmd() *cobra.Command {
	cfg := agent.Config{Version: buildinfo.Read().Version}
	var (
		level  string
		limits limitFlags
	)
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Watch this host and serve its stories",
		Long: `Watch this host and serve its stories.

The process is the agent: it watches the kernel, which takes root, and accepts
no connection. It starts the server, which holds the data and the page, as a
child without privileges: as user clew where there is one, else as a user id
from 61184 to 65519 that nobody has.

Where the kernel cannot be watched, a recording is shown instead and marked as
one, unless --sensor asks for a way to watch.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, lvl, err := newLogger(cmd, level)
			if err != nil {
				return usageError(cmd, err)
			}
			if cfg.Limits, err = limits.read(); err != nil {
				return usageError(cmd, err)
			}
			cfg.Log, cfg.LogLevel, cfg.Out = log, lvl, cmd.OutOrStdout()
			cfg.Recording, _ = demo.Recording()
			a, err := agent.New(cfg)
			if errors.Is(err, agent.ErrNotSupported) {
				return err
			}
			if err != nil {
				return usageError(cmd, err)
			}
			return a.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Data, "data", defaultData(), "data directory ($CLEW_DATA)")
	f.StringVar(&cfg.Listen, "listen", defaultListen, "address of the page and the API")
	f.StringArrayVar(&cfg.Policies, "policies", nil, "rules beside the shipped ones: a file or directory (may be repeated)")
	f.StringVar(&cfg.Sensor, "sensor", agent.SensorAuto, "auto, trampoline, tracepoint, none or replay:FILE")
	f.BoolVar(&cfg.See32, "see-32bit", false, see32Usage)
	f.StringVar(&cfg.MetricsListen, "metrics-listen", "", "address of /metrics for Prometheus, without a login; empty for none")
	f.DurationVar(&cfg.MetricsEvery, "metrics-every", 0, "how often the agent sends its numbers")
	_ = f.MarkHidden("metrics-every") // for clew bench
	f.BoolVar(&cfg.NoShippedRules, "no-shipped-rules", false, "only the rules of --policies")
	limits.add(f)
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// see32Usage states the cost, measured as docs/limits.md tells.
const see32Usage = "in tracepoint mode, see 32-bit system calls too: every system call of the host becomes dearer, the cheapest by a third"

// newLogger logs as text to the command's standard error.
func newLogger(cmd *cobra.Command, level string) (*slog.Logger, slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, 0, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: l})), l, nil
}
