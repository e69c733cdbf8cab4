package bench

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestDifference(t *testing.T) {
	before := parseMetrics("# HELP x y\nclew_agent_kernel_events_total{agent=\"a\",kind=\"open\",outcome=\"sent\"} 5\nclew_agent_kept_events_total{kind=\"open\"} 1\nbroken\n")
	after := parseMetrics(strings.Join([]string{
		`clew_agent_kernel_events_total{agent="a",kind="open",outcome="sent"} 8`,
		`clew_agent_kernel_events_total{agent="a",kind="open",outcome="filtered"} 100`,
		`clew_agent_kernel_events_total{agent="a",kind="exec",outcome="ignored"} 7`,
		`clew_agent_lost_events_total{kind="open",reason="ring_full_bulk"} 2`,
		`clew_agent_lost_events_total{kind="exec",reason="ring_full_bulk"} 1`,
		`clew_agent_kept_events_total{kind="open"} 4`,
		`clew_agent_bpf_run_seconds_total{program="proc/on_exec"} 0.001`,
	}, "\n"))
	c := difference("open", "full", 1000, before, after)
	if c.Sent != 3 || c.Filtered != 100 || c.Ignored != 7 || c.Lost["ring_full_bulk"] != 3 || c.Kept != 3 || c.BPFNS != 1000 || c.Programs["proc/on_exec"] != 1e6 {
		t.Errorf("%+v", c)
	}
	if c.lost() != 3 || c.lostText() != "3 ring_full_bulk" || (Count{}).lostText() != "0" {
		t.Errorf("lost %g, %s", c.lost(), c.lostText())
	}
}

// TestSettled holds that numbers count only when the agent has sent them since.
func TestSettled(t *testing.T) {
	answers := []string{"5", "5", "6", "6", "7", "8"}
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("clew_agent_stream_records_total{agent=\"a\"} " + answers[min(n, len(answers)-1)] + "\n"))
		n++
	}))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	got, err := settled(t.Context(), addr, map[string]float64{`clew_agent_stream_records_total{agent="a"}`: 5})
	if err != nil || total(got, "clew_agent_stream_records_total") != 7 {
		t.Errorf("%v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := settled(ctx, addr, nil); err == nil {
		t.Error("no error although the time was up")
	}
}

// TestAuditRefuses holds that rules of somebody else are never removed. Whether
// auditd is there decides which sentence says so.
func TestAuditRefuses(t *testing.T) {
	dir := t.TempDir()
	fake := func(name, script string) {
		if err := os.WriteFile(dir+"/"+name, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	fake("auditd", "exit 0\n")
	for _, tt := range []struct{ script, says string }{
		{`[ $1 = -l ] && echo "-w /etc -p wa"; exit 0`, "rules are loaded already"},
		{`[ $1 = -l ] && echo "No rules" || echo "pid 12"; exit 0`, "an audit daemon runs (pid 12)"},
		{`[ $1 = -l ] && echo "No rules" || printf "enabled 2\npid 0\n"; exit 0`, "locked"},
		{`[ $1 = -l ] && printf -- "-a never,task\n-w /etc -p wa\n"; exit 0`, "rules are loaded already"},
		{`echo "you may not" >&2; exit 1`, "you may not"},
	} {
		fake("auditctl", tt.script+"\n")
		if _, err := NewAudit(t.Context(), dir+"/conf"); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("error %v, want %q in it", err, tt.says)
		}
	}
	fake("auditctl", `echo "$@" >>`+dir+`/log; [ $1 = -l ] && echo "No rules" || printf "enabled 0\npid 0\n"; exit 0`+"\n")
	a, err := NewAudit(t.Context(), dir+"/conf")
	if err != nil {
		t.Fatal(err)
	}
	s := a.Setup()
	if err := s.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	log, err := exec.Command("cat", dir+"/log").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-e 1\n", "-l\n-s\n-a never,task\n", "-a always,exit -F arch=b64 -S execve,execveat -k clew-bench\n", "-e 0\n-a never,task\n", "-D\n-e 0\n-l\n-s\n"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("auditctl was not called as in %q:\n%s", want, log)
		}
	}
}
