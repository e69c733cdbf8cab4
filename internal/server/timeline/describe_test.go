package timeline

import (
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/server/graph"
)

// TestEveryKindInWords holds that events of every kind are described by more
// than the name of their kind, empty payloads included.
func TestEveryKindInWords(t *testing.T) {
	plain := map[string]bool{
		"capabilities": true, "packet": true, "ondemand": true, "failed_dns": true, "network_flow_monitor": true, "selinux": true,
		"prctl": true, "setsockopt": true,
	}
	for k := event.Kind(1); k < event.NumKinds; k++ {
		e := &event.Event{Kind: k, PID: 7}
		e.Allocate()
		got := plainText(Describe(graph.Placed{Item: graph.Item{Event: e}, Actor: graph.Name{ID: "p", Label: "sh"}}, nil))
		if byName := got == "sh: "+strings.ReplaceAll(k.String(), "_", " "); byName != plain[k.String()] {
			t.Errorf("%s: %q", k, got)
		}
	}
}

func TestOtherKinds(t *testing.T) {
	victim := event.Target{PID: 9, Proc: &event.Process{PID: 9, Comm: "sshd", File: event.File{Path: "/usr/sbin/sshd"}}}
	for want, e := range map[string]event.Event{
		"sh wrote into the memory of sshd":                    {Kind: event.KindPtrace, Ptrace: &event.Ptrace{Request: 5, Tracee: victim}},
		"sh was refused to attach to sshd":                    {Kind: event.KindPtrace, Ptrace: &event.Ptrace{Request: 16, Tracee: victim, Retval: -1}},
		"sh sent SIGKILL to sshd":                             {Kind: event.KindSignal, SignalSent: &event.SignalSent{Type: 9, Target: victim}},
		"sh sent SIGTERM to itself":                           {Kind: event.KindSignal, SignalSent: &event.SignalSent{Type: 15, Target: event.Target{PID: 7}}},
		"sh mapped memory, readable, writable and executable": {Kind: event.KindMmap, Mmap: &event.Mmap{Protection: 7}},
		"sh made memory executable":                           {Kind: event.KindMprotect, Mprotect: &event.Mprotect{ReqProtection: 4}},
		"sh left its namespaces: user and mount":              {Kind: event.KindUnshare, Unshare: &event.Unshare{Flags: 0x10020000}},
		"sh loaded kernel module rk from memory":              {Kind: event.KindLoadModule, LoadModule: &event.LoadModule{Name: "rk", LoadedFromMemory: true}},
		"sh loaded a BPF program hook":                        {Kind: event.KindBPF, BPF: &event.BPF{Cmd: 5, ProgName: "hook"}},
		"sh set kernel parameter kernel/core_pattern to |/x":  {Kind: event.KindSysctl, Sysctl: &event.Sysctl{Action: 2, Name: "kernel/core_pattern", Value: "|/x\n"}},
		"sh read kernel parameter vm/swappiness":              {Kind: event.KindSysctl, Sysctl: &event.Sysctl{Action: 1, Name: "vm/swappiness"}},
		"sh mounted tmpfs at /mnt":                            {Kind: event.KindMount, Mount: &event.Mount{FSType: "tmpfs", MountpointPath: "/mnt"}},
		"sh looked up evil.example":                           {Kind: event.KindDNS, DNS: &event.DNS{QuestionName: "evil.example"}},
		"sh was answered about evil.example: 192.0.2.1":       {Kind: event.KindDNS, DNS: &event.DNS{QuestionName: "evil.example", IsResponse: true, Addresses: []string{"192.0.2.1"}}},
		"sh asked the aws metadata service for /latest/":      {Kind: event.KindIMDS, IMDS: &event.IMDS{Type: "request", CloudProvider: "aws", URL: "/latest/"}},
		"sh renamed itself kworker/0:1":                       {Kind: event.KindPrctl, Prctl: &event.Prctl{NewName: "kworker/0:1"}},
	} {
		e.PID = 7
		got := plainText(Describe(graph.Placed{Item: graph.Item{Event: &e}, Actor: graph.Name{ID: "p", Label: "sh"}}, nil))
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
