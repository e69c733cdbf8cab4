package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/store/storetest"
	"github.com/clewsec/clew/internal/wire"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"clew": func() { os.Exit(run(os.Args[1:])) },
	})
}

// TestScripts runs the commands as a person does. $DATA is a data directory
// whose path is short enough for a socket and open to the server's user.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
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
			if err := os.Chmod(dir, 0o755); err != nil {
				return err
			}
			env.Setenv("DATA", dir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"push": push},
	})
}

// push plays an agent: push DATA FIRST COUNT hands generated events to the
// server of a data directory, as soon as there is one.
func push(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: push DATA")
	}
	const run = 7
	recs := []*event.SpoolRecord{
		{RunStart: &event.RunStart{Run: run, HostID: storetest.Agent1, Hostname: "web-1", Mode: "tracepoint", At: storetest.Epoch}},
		{Context: &event.Context{Key: storetest.ContextKey(8), Layer: "sudo", Priority: 48, Entity: "www-data to root", At: storetest.Epoch, Episodic: true}},
	}
	recs = append(recs, storetest.Events(run, 4, 100)...)
	var raw []byte
	for i, r := range recs {
		r.Seq = uint64(i + 1)
		var err error
		raw, err = wire.AppendRecord(raw, r)
		ts.Check(err)
	}
	enc, err := wire.NewEncoder()
	ts.Check(err)
	batch := &clewv1.Batch{Id: wire.BatchID(storetest.Agent1, run, 1), Run: run, FirstSeq: 1, LastSeq: uint64(len(recs)), Payload: enc.Encode(nil, raw)}

	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &h2c, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(args[0], "run", "agent.sock"))
	}}
	defer tr.CloseIdleConnections()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := pushOnce(wire.NewClient(tr, "http://agent").Push(context.Background()), batch)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("push: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // until the server is there
	}
}

func pushOnce(conn *connect.BidiStreamForClient[clewv1.PushRequest, clewv1.PushResponse], b *clewv1.Batch) error {
	// Neither says more than the call that failed before.
	defer func() { _, _ = conn.CloseRequest(), conn.CloseResponse() }()
	for _, req := range []*clewv1.PushRequest{
		{Body: &clewv1.PushRequest_Hello{Hello: &clewv1.Hello{AgentId: storetest.Agent1, Hostname: "web-1", Run: b.Run, Protocol: wire.Protocol, Mode: "tracepoint"}}},
		{Body: &clewv1.PushRequest_Batch{Batch: b}},
	} {
		if err := conn.Send(req); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := conn.Receive(); err != nil {
			return err
		}
	}
	return nil
}
