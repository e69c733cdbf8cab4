package main

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/clewsec/clew/internal/agent"
)

// limitFlags are the ceilings of agent and server.
type limitFlags struct {
	agentMemory, serverMemory string
	agentCPUs, serverCPUs     string
	noCgroup                  bool
}

const autoLimit = "auto"

func (l *limitFlags) add(f *pflag.FlagSet) {
	f.StringVar(&l.agentMemory, "agent-memory", autoLimit, "memory ceiling of the agent, as 512MiB; none for none")
	f.StringVar(&l.agentCPUs, "agent-cpus", autoLimit, "processor ceiling of the agent, as 1.5; none for none")
	f.StringVar(&l.serverMemory, "server-memory", autoLimit, "memory ceiling of the server")
	f.StringVar(&l.serverCPUs, "server-cpus", autoLimit, "processor ceiling of the server")
	f.BoolVar(&l.noCgroup, "no-cgroup", false, "stay in the control group that clew was started in")
}

// read returns the limits for this host.
func (l *limitFlags) read() (agent.Limits, error) {
	out := agent.DefaultLimits(agent.HostMemory(), runtime.NumCPU())
	out.NoCgroup = l.noCgroup
	var errs []error
	for _, m := range []struct {
		flag, text string
		to         *int64
	}{{"agent-memory", l.agentMemory, &out.Agent.Memory}, {"server-memory", l.serverMemory, &out.Server.Memory}} {
		if m.text == autoLimit {
			continue
		}
		n, err := agent.ParseBytes(m.text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", m.flag, err))
			continue
		}
		*m.to = n
	}
	for _, c := range []struct {
		flag, text string
		to         *float64
	}{{"agent-cpus", l.agentCPUs, &out.Agent.CPUs}, {"server-cpus", l.serverCPUs, &out.Server.CPUs}} {
		switch c.text {
		case autoLimit:
		case "none":
			*c.to = 0
		default:
			n, err := strconv.ParseFloat(c.text, 64)
			if err != nil || n <= 0 {
				errs = append(errs, fmt.Errorf("--%s %q: want a number of processors, as 1.5, or none", c.flag, c.text))
				continue
			}
			*c.to = n
		}
	}
	return out, errors.Join(errs...)
}
