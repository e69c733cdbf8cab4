package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/buildinfo"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/record"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/sensor"
)

func newRecordCmd() *cobra.Command {
	var out, mode, level string
	var asAgent, see32 bool
	cmd := &cobra.Command{
		Use:   "record -o FILE.clewrec [-- CMD [ARG…]]",
		Short: "Record what the kernel sees, for clew replay",
		Long: `Record what the kernel sees, for clew replay.

With a command, what it and its descendants do is recorded, until it ends;
their lineage begins with it. Without one, everything on this host is recorded
until Ctrl-C. The name and the ids of the host are left out. Recording takes
root.`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, a []string) error {
			switch {
			case out == "":
				return usageError(cmd, errors.New("no -o FILE.clewrec"))
			case len(a) > 0 && cmd.ArgsLenAtDash() != 0:
				return usageError(cmd, fmt.Errorf("a command comes after --: %q", a[0]))
			}
			log, _, err := newLogger(cmd, level)
			if err != nil {
				return usageError(cmd, err)
			}
			var plan *kfilter.Plan
			if asAgent {
				set, _, err := policies.Load(policies.HostFacts())
				if err != nil {
					return err
				}
				p := kfilter.Baseline()
				p.Join(ruleset.DerivePlan(set))
				plan = &p
			}
			sum, err := record.Run(cmd.Context(), record.Config{
				Path: out, Command: a, Mode: sensor.Mode(mode), See32: see32, Plan: plan, Version: buildinfo.Read().Version,
				Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(), Log: log,
			})
			if sum.Records > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d records, %d lost, %d bytes\n", out, sum.Records, sum.Lost, sum.Bytes)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "output", "o", "", "file to write")
	f.StringVar(&mode, "sensor", string(sensor.Auto), "auto, trampoline or tracepoint")
	f.BoolVar(&see32, "see-32bit", false, see32Usage)
	f.BoolVar(&asAgent, "as-agent", false, "record only what an agent with the shipped rules asks the kernel for")
	f.StringVar(&level, "log-level", "warn", "debug, info, warn or error")
	return cmd
}
