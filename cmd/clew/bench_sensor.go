package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/bench"
)

// everything is a policy that has every kind of event leave the kernel that a
// benchmark's work makes: the most that watching can cost.
const everything = `version: 1.0.0
rules:
  - {id: bench_open, silent: true, expression: "open.retval >= -4096"}
  - {id: bench_mmap, silent: true, expression: "mmap.retval >= -4096"}
  - {id: bench_mprotect, silent: true, expression: "mprotect.retval >= -4096"}
  - {id: bench_socket, silent: true, expression: "socket.domain >= 0"}
  - {id: bench_chdir, silent: true, expression: "chdir.retval >= -4096"}
  - {id: bench_splice, silent: true, expression: "splice.retval >= -4096"}
  - {id: bench_utimes, silent: true, expression: "utimes.retval >= -4096"}
  - {id: bench_mkdir, silent: true, expression: "mkdir.retval >= -4096"}
  - {id: bench_rmdir, silent: true, expression: "rmdir.retval >= -4096"}
`

func newBenchSensorCmd() *cobra.Command {
	var (
		cfg    bench.Config
		sensor string
		setups []string
		beside string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "sensor",
		Short: "Measure what watching costs this host",
		Long: `Measure what watching costs this host: the same work without clew, with it,
and again without it, several times over. It starts a clew of its own, with a
temporary data directory, in these setups, and takes some minutes:

  attached   no rules: what is always watched
  filtering  the shipped rules
  full       every event of the work leaves the kernel

With --beside auditd it also measures auditd watching the same, which it starts
and stops, and leaves the kernel's audit as it was. Run it on a quiet machine on
which no other clew runs.`,
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
			policy := filepath.Join(dir, "everything.policy")
			if err := os.WriteFile(policy, []byte(everything), 0o644); err != nil {
				return err
			}
			extra := map[string][]string{"attached": {"--no-shipped-rules"}, "filtering": nil, "full": {"--policies", policy}}
			for _, name := range setups {
				more, ok := extra[name]
				if !ok {
					return usageError(cmd, fmt.Errorf("setup %q: want attached, filtering or full", name))
				}
				addr, err := freeAddress(cmd.Context())
				if err != nil {
					return err
				}
				data := filepath.Join(dir, name)
				cfg.Setups = append(cfg.Setups, bench.Setup{
					Name: name, Metrics: addr,
					Start: append([]string{exe, "up", "--data", data, "--listen", "127.0.0.1:0", "--sensor", sensor,
						"--metrics-listen", addr, "--metrics-every", "1s"}, more...),
					Ready: []string{exe, "status", "--data", data, "--wait", "60s"},
				})
			}
			switch beside {
			case "":
			case "auditd":
				audit, err := bench.NewAudit(cmd.Context(), filepath.Join(dir, "audit"))
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, audit.Close(context.WithoutCancel(cmd.Context()))) }()
				cfg.Setups = append(cfg.Setups, audit.Setup())
			default:
				return usageError(cmd, fmt.Errorf("beside %q: want auditd", beside))
			}
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
	f.IntVar(&cfg.Pairs, "pairs", bench.DefaultPairs, "how often each work is done with each setup and without")
	f.StringSliceVar(&cfg.Names, "work", nil, "what to measure, of "+strings.Join(bench.Names(), ", ")+" (default all)")
	f.StringSliceVar(&setups, "setup", []string{"attached", "filtering", "full"}, "how to watch")
	f.StringVar(&beside, "beside", "", "what else to measure: auditd")
	f.Float64Var(&cfg.Scale, "scale", 1, "how long each work is repeated, as a multiple")
	f.StringVar(&sensor, "sensor", "tracepoint", "tracepoint or trampoline")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// freeAddress is an address on loopback that nobody listened on just now.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
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
