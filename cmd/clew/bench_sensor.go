package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/bench"
)

func newBenchSensorCmd() *cobra.Command {
	var (
		cfg    bench.Config
		sensor string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "sensor",
		Short: "Measure what watching costs this host",
		Long: `Measure what watching costs this host: the same work without clew, with it,
and again without it, several times over. It starts a clew of its own, with the
shipped rules and a temporary data directory, and takes some minutes. Run it on
a quiet machine on which no other clew runs.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			dir, err := os.MkdirTemp("", "clew-bench-")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			// The unprivileged server has to get through to its own part.
			if err := os.Chmod(dir, 0o755); err != nil {
				return err
			}
			data := filepath.Join(dir, "data")
			cfg.Start = []string{exe, "up", "--data", data, "--listen", "127.0.0.1:0", "--sensor", sensor}
			cfg.Ready = []string{exe, "status", "--data", data, "--wait", "30s"}
			cfg.Worker = []string{exe, "bench-worker"}
			cfg.Log = cmd.ErrOrStderr()
			rep, err := bench.Sensor(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				return rep.WriteJSON(cmd.OutOrStdout())
			}
			return rep.WriteText(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Pairs, "pairs", bench.DefaultPairs, "how often each work is done with clew and without")
	f.StringSliceVar(&cfg.Names, "work", nil, "what to measure, of "+strings.Join(bench.Names(), ", ")+" (default all)")
	f.StringVar(&sensor, "sensor", "tracepoint", "tracepoint or trampoline")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// newBenchWorkerCmd does one work of a benchmark in a process of its own.
func newBenchWorkerCmd() *cobra.Command {
	return &cobra.Command{
		Use:    "bench-worker NAME DIR SCALE",
		Hidden: true,
		Args:   args(cobra.ExactArgs(3)),
		RunE:   func(cmd *cobra.Command, a []string) error { return bench.Work(a, cmd.OutOrStdout()) },
	}
}
