package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/schema"
	"github.com/clewsec/clew/internal/stream"
)

// TestUp runs agent and server as a person does, with a recording in place of
// the kernel. $DATA is a directory whose path is short enough for a socket.
func TestUp(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/up",
		Setup: func(env *testscript.Env) error {
			dir, err := os.MkdirTemp("", "clew")
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			})
			env.Setenv("DATA", dir)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return os.Geteuid() == 0, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"recording": writeRecording,
			"killpart":  killPart,
			"port":      setPort,
		},
	})
}

// writeRecording makes a recording of programs that are executed: recording
// FILE.
func writeRecording(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: recording FILE")
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	w, err := stream.NewWriter(f)
	ts.Check(err)
	const at = 1_700_000_000_000_000_000
	recs := []*event.StreamRecord{
		{RunStart: &event.RunStart{
			Run: 7, Seed: make([]byte, 32), Hostname: "recorded-host", Mode: "tracepoint", Schema: schema.Version, At: at, OffsetNS: at,
		}},
		{Clock: &event.Clock{OffsetNS: at}},
		{Snapshot: &event.Process{PID: 1, TID: 1, StartNS: 1, Comm: "init", Source: "snapshot"}},
		{SnapshotEnd: &event.SnapshotEnd{Processes: 1}},
	}
	for i := range uint32(500) {
		pid := 100 + i
		recs = append(recs, &event.StreamRecord{BootNS: 1e9 + uint64(i), Event: &event.Event{
			Kind: event.KindExec, PID: pid, TID: pid, StartNS: uint64(pid),
			Exec: &event.Exec{Image: &event.Process{
				PID: pid, TID: pid, PPID: 1, StartNS: uint64(pid), Comm: "tool", File: event.File{Path: "/usr/bin/tool"},
				AllArgs: []string{"tool", "--number"},
			}},
		}})
	}
	for i, r := range recs {
		r.Seq = uint64(i + 1)
		ts.Check(w.Write(r))
	}
	ts.Check(w.Close())
}

// killPart kills the agent or the server of a running clew as nothing can be
// prepared for: killpart agent|server DATA.
func killPart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: killpart agent|server DATA")
	}
	var part struct{ PID int }
	ts.Check(json.Unmarshal(status(ts, args[1])[args[0]], &part))
	if part.PID <= 1 {
		ts.Fatalf("no %s there", args[0])
	}
	ts.Check(syscall.Kill(part.PID, syscall.SIGKILL))
}

// setPort sets $PORT to the port of a running clew: port DATA.
func setPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: port DATA")
	}
	var server struct{ Listen string }
	ts.Check(json.Unmarshal(status(ts, args[0])["server"], &server))
	_, port, err := net.SplitHostPort(server.Listen)
	ts.Check(err)
	ts.Setenv("PORT", port)
}

// status is what clew status says.
func status(ts *testscript.TestScript, data string) map[string]json.RawMessage {
	path := ""
	for _, dir := range strings.Split(ts.Getenv("PATH"), ":") {
		if _, err := os.Stat(dir + "/clew"); err == nil {
			path = dir + "/clew"
			break
		}
	}
	out, err := exec.Command(path, "status", "--data", data, "--json").Output()
	ts.Check(err)
	var st map[string]json.RawMessage
	ts.Check(json.Unmarshal(out, &st))
	return st
}
