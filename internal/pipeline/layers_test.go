package pipeline_test

import (
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/testkit/streamtest"
)

// Each shipped layer opens where it says, and not next to it.
func TestShippedLayers(t *testing.T) {
	cfg, err := pipeline.Standard(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Rules = rules{}
	p, err := pipeline.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, init := streamtest.New()
	tty := func(p *event.Process) { p.TTYName = "pts0" }
	cgroup := func(path string) func(*event.Process) {
		return func(p *event.Process) { p.Cgroup = path }
	}
	nginx := b.Spawn(init, "/usr/sbin/nginx", nil, cgroup("/system.slice/nginx.service"), streamtest.Setsid)
	b.Spawn(nginx, "/bin/sh", []string{"-c", "id"})
	sshd := b.Spawn(init, "/usr/sbin/sshd", nil, cgroup("/system.slice/ssh.service"), streamtest.Setsid)
	bash := b.Spawn(sshd, "/bin/bash", nil, tty, streamtest.Setsid, func(p *event.Process) { p.AUID = 1000 })
	b.Spawn(bash, "/bin/ls", nil)
	b.Spawn(bash, "/usr/bin/nohup", nil, func(p *event.Process) { p.TTYName = "" }, streamtest.Setsid)
	cron := b.Spawn(init, "/usr/sbin/cron", nil, streamtest.Setsid)
	b.Spawn(cron, "/bin/sh", []string{"-c", "job"}, streamtest.Setsid)
	plain := b.Spawn(init, "/bin/true", nil)
	b.Spawn(plain, "/bin/sh", []string{"-c", "true"})

	got := map[string][]string{}
	for _, r := range b.Records {
		if err := p.Push(clone(t, r), func(s *event.SpoolRecord) error {
			if e := s.Event; e != nil && e.Kind == event.KindExec {
				var layers []string
				for _, c := range e.Contexts {
					layers = append(layers, c.Layer)
				}
				name := e.Proc.File.Name()
				if e.Proc.Parent != nil && name == "sh" {
					name = e.Proc.Parent.File.Name() + ">" + name
				}
				got[name] = layers
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][]string{
		"nginx":    {"service", "cgroup"},
		"nginx>sh": {"spawned_shell", "service", "cgroup"},
		"bash":     {"interactive_shell", "service", "auid", "cgroup"},
		"ls":       {"interactive_shell", "service", "auid", "cgroup"},
		"nohup":    {"daemonized", "interactive_shell", "service", "auid", "cgroup"},
		"cron>sh":  {"daemonized", "cron_job", "cgroup"},
		"true":     {"cgroup"},
		"true>sh":  {"cgroup"},
	} {
		if !equal(got[name], want) {
			t.Errorf("%s carries %v, want %v", name, got[name], want)
		}
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
