package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clewsec/clew/internal/client"
	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server"
	"github.com/clewsec/clew/internal/store"
	"github.com/clewsec/clew/internal/store/storetest"
	"github.com/clewsec/clew/internal/wire"
)

// envServer makes this program a server: a real process, sandboxed.
const envServer = "CLEW_TEST_SERVER_DATA"

func TestMain(m *testing.M) {
	if data := os.Getenv(envServer); data != "" {
		os.Exit(runServer(data))
	}
	goleak.VerifyTestMain(m)
}

func runServer(data string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := server.New(server.Config{Data: data, Listen: os.Getenv("CLEW_TEST_LISTEN"), Version: "test", Now: time.Now, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err == nil {
		err = s.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

var files = fstest.MapFS{
	"index.html":    {Data: []byte(`<meta name="csp-nonce" content="__CSP_NONCE__">the page`)},
	"assets/app.js": {Data: []byte("app")},
	"favicon.svg":   {Data: []byte("<svg/>")},
}

// A fixture is a server in this process.
type fixture struct {
	t      *testing.T
	data   string
	addr   string
	scrape string // address of /metrics
	client *client.Client
	stop   func()
}

// shortDir is a directory whose name fits into a socket's address.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "clew")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func start(t *testing.T, data string) *fixture {
	t.Helper()
	s, err := server.New(server.Config{
		Data: data, Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", Hosts: []string{"clew.example"}, Page: fs.FS(files), Version: "test", Now: time.Now, NoSandbox: true,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		cancel()
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("server is not ready in time")
	}
	f := &fixture{t: t, data: data, addr: s.Addr(), scrape: s.MetricsAddr()}
	if f.client, err = client.New(client.Config{Data: data}); err != nil {
		t.Fatal(err)
	}
	stopped := false
	f.stop = func() {
		if stopped {
			return
		}
		stopped = true
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server ended with %v", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("server took %v to stop", took)
		}
	}
	t.Cleanup(f.stop)
	return f
}

// A pusher is an agent's stream by hand.
type pusher struct {
	t    *testing.T
	conn *connect.BidiStreamForClient[clewv1.PushRequest, clewv1.PushResponse]
	tr   *http.Transport
}

func ingestTransport(data string) *http.Transport {
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: &h2c, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(data, "run", "agent.sock"))
	}}
}

func hello(agent string, run uint64) *clewv1.Hello {
	return &clewv1.Hello{AgentId: agent, Hostname: "web-1", Run: run, Protocol: wire.Protocol, Mode: "tracepoint", Version: "test"}
}

// connectAgent opens a stream and returns it with the welcome.
func connectAgent(t *testing.T, data string, h *clewv1.Hello) (*pusher, *clewv1.Welcome, error) {
	t.Helper()
	tr := ingestTransport(data)
	p := &pusher{t: t, tr: tr, conn: wire.NewClient(tr, "http://agent").Push(context.Background())}
	t.Cleanup(p.close)
	if err := p.conn.Send(&clewv1.PushRequest{Body: &clewv1.PushRequest_Hello{Hello: h}}); err != nil && !errors.Is(err, io.EOF) {
		return p, nil, err
	}
	resp, err := p.conn.Receive()
	if err != nil {
		return p, nil, err
	}
	return p, resp.GetWelcome(), nil
}

func (p *pusher) close() {
	// Both fail when the server has gone first.
	_ = p.conn.CloseRequest()
	_ = p.conn.CloseResponse()
	p.tr.CloseIdleConnections()
}

func batch(t testing.TB, agent string, run uint64, recs []*event.SpoolRecord) *clewv1.Batch {
	t.Helper()
	var raw []byte
	for _, r := range recs {
		var err error
		if raw, err = wire.AppendRecord(raw, r); err != nil {
			t.Fatal(err)
		}
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	first, last := recs[0].Seq, recs[len(recs)-1].Seq
	return &clewv1.Batch{Id: wire.BatchID(agent, run, first), AgentId: agent, Run: run, FirstSeq: first, LastSeq: last, Payload: enc.Encode(nil, raw)}
}

func (p *pusher) push(b *clewv1.Batch) (*clewv1.Ack, error) {
	if err := p.conn.Send(&clewv1.PushRequest{Body: &clewv1.PushRequest_Batch{Batch: b}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	resp, err := p.conn.Receive()
	if err != nil {
		return nil, err
	}
	return resp.GetAck(), nil
}

func (p *pusher) mustPush(b *clewv1.Batch) *clewv1.Ack {
	p.t.Helper()
	ack, err := p.push(b)
	if err != nil {
		p.t.Fatal(err)
	}
	if ack.GetBatchId() != b.Id {
		p.t.Fatalf("answer %v to batch %s", ack, b.Id)
	}
	return ack
}

func (p *pusher) health(h *clewv1.Health) {
	p.t.Helper()
	if err := p.conn.Send(&clewv1.PushRequest{Body: &clewv1.PushRequest_Health{Health: h}}); err != nil {
		p.t.Fatal(err)
	}
}

func mustConnect(t *testing.T, data string, h *clewv1.Hello) *pusher {
	t.Helper()
	p, w, err := connectAgent(t, data, h)
	if err != nil {
		t.Fatal(err)
	}
	if w == nil {
		t.Fatal("no welcome")
	}
	return p
}

func search(t *testing.T, c *client.Client, req *clewv1.SearchEventsRequest) *clewv1.SearchEventsResponse {
	t.Helper()
	resp, err := c.Events.SearchEvents(context.Background(), connect.NewRequest(req))
	if err != nil {
		t.Fatal(err)
	}
	return resp.Msg
}

func status(t *testing.T, c *client.Client) *clewv1.GetStatusResponse {
	t.Helper()
	resp, err := c.Fleet.GetStatus(context.Background(), connect.NewRequest(&clewv1.GetStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return resp.Msg
}

// eventually waits until what f says is empty.
func eventually(t *testing.T, f func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		why := f()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(why)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

func attackRecords(run uint64) []*event.SpoolRecord {
	recs := []*event.SpoolRecord{
		{RunStart: &event.RunStart{Run: run, HostID: storetest.Agent1, Hostname: "web-1", Mode: "tracepoint", At: storetest.Epoch}},
		{Context: &event.Context{Key: storetest.ContextKey(8), Layer: "sudo", Priority: 48, Entity: "www-data to root", At: storetest.Epoch, Episodic: true}},
	}
	recs = append(recs, storetest.Events(run, 4, 200)...)
	for i, r := range recs {
		r.Seq = uint64(i + 1)
	}
	return recs
}

func TestEndToEnd(t *testing.T) {
	data := shortDir(t)
	f := start(t, data)
	if st := status(t, f.client); st.Ok || st.Reason == "" {
		t.Errorf("status without agents: %v", st)
	}
	p, w, err := connectAgent(t, data, hello(storetest.Agent1, 7))
	if err != nil || !w.ResendNodes {
		t.Fatalf("welcome %v, error %v", w, err)
	}
	recs := attackRecords(7)
	if ack := p.mustPush(batch(t, storetest.Agent1, 7, recs)); ack.Duplicate {
		t.Error("a new batch is called a duplicate")
	}
	if ack := p.mustPush(batch(t, storetest.Agent1, 7, recs)); !ack.Duplicate {
		t.Error("the same batch again is not called a duplicate")
	}
	check := func(f *fixture) {
		t.Helper()
		resp := search(t, f.client, &clewv1.SearchEventsRequest{Limit: 1000})
		if len(resp.Items) != 200 || resp.Total.Value != 200 || !resp.Total.Exact {
			t.Fatalf("%d events, total %v", len(resp.Items), resp.Total)
		}
		stories, err := f.client.Stories.ListStories(context.Background(), connect.NewRequest(&clewv1.ListStoriesRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		if len(stories.Msg.Items) == 0 || stories.Msg.Total.Value != int64(len(stories.Msg.Items)) {
			t.Fatalf("stories %v", stories.Msg)
		}
		for _, s := range stories.Msg.Items {
			got, err := f.client.Stories.GetStory(context.Background(), connect.NewRequest(&clewv1.GetStoryRequest{Id: s.Id}))
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Msg.Story.Graph.GetNodes()) == 0 || len(got.Msg.Story.Timeline.GetItems()) == 0 || got.Msg.Story.Version != s.Version {
				t.Errorf("story %s: %d nodes, %d entries, version %s of %s", s.Id, len(got.Msg.Story.Graph.GetNodes()), len(got.Msg.Story.Timeline.GetItems()), got.Msg.Story.Version, s.Version)
			}
		}
	}
	check(f)

	// No canary yet; then one.
	if st := status(t, f.client); st.Ok || len(st.Agents) != 1 || st.Agents[0].Status != "ok" {
		t.Errorf("status before a canary: %v", st)
	}
	p.mustPush(batch(t, storetest.Agent1, 7, []*event.SpoolRecord{{Seq: 10_000, Canary: &event.Canary{Nonce: 1, At: storetest.Epoch}}}))
	if st := status(t, f.client); !st.Ok || st.Agents[0].CanaryAt.AsTime().UnixNano() != storetest.Epoch || st.Recording {
		t.Errorf("status after a canary: %v", st)
	}
	p.close()
	eventually(t, func() string {
		if st := status(t, f.client); st.Ok || st.Agents[0].Status != "down" {
			return fmt.Sprintf("status after the agent has gone: %v", st)
		}
		return ""
	})

	// After a restart everything is as before.
	before, err := f.client.Stories.ListStories(context.Background(), connect.NewRequest(&clewv1.ListStoriesRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	f.stop()
	f = start(t, data)
	check(f)
	after, err := f.client.Stories.ListStories(context.Background(), connect.NewRequest(&clewv1.ListStoriesRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range after.Msg.Items {
		if b := before.Msg.Items[i]; s.Id != b.Id || s.Score != b.Score || !s.LastSeen.AsTime().Equal(b.LastSeen.AsTime()) {
			t.Errorf("story %d is %s (%d), was %s (%d)", i, s.Id, s.Score, b.Id, b.Score)
		}
	}
	if st := status(t, f.client); len(st.Agents) != 1 || st.Agents[0].Host != "web-1" || st.Agents[0].Status != "down" {
		t.Errorf("status after a restart: %v", st)
	}
	p, w, err = connectAgent(t, data, hello(storetest.Agent1, 7))
	if err != nil || w.ResendNodes {
		t.Fatalf("welcome %v, error %v", w, err)
	}
	if ack := p.mustPush(batch(t, storetest.Agent1, 7, recs)); !ack.Duplicate {
		t.Error("a batch from before the restart is stored again")
	}
}

func TestRecordingStatus(t *testing.T) {
	data := shortDir(t)
	f := start(t, data)
	h := hello(storetest.Agent1, 7)
	h.Recording, h.Mode, h.Reason = true, "replay", "the kernel is out of reach"
	p := mustConnect(t, data, h)
	p.health(&clewv1.Health{SpoolRecords: 5})
	p.mustPush(batch(t, storetest.Agent1, 7, attackRecords(7)))
	if st := status(t, f.client); st.Ok || !st.Recording {
		t.Errorf("status within a recording: %v", st)
	}
	p.health(&clewv1.Health{Done: true})
	eventually(t, func() string {
		if st := status(t, f.client); !st.Ok || !st.Recording || !st.Agents[0].Done || st.Agents[0].Reason != h.Reason {
			return fmt.Sprintf("status at the end of a recording: %v", st)
		}
		return ""
	})
}

// TestRefusedBatches sends what no agent sends. Each is refused with a reason,
// nothing of it is stored, and the server goes on.
func TestRefusedBatches(t *testing.T) {
	data := shortDir(t)
	f := start(t, data)
	good := batch(t, storetest.Agent1, 7, attackRecords(7))
	for name, change := range map[string]func(*clewv1.Batch){
		"no payload":      func(b *clewv1.Batch) { b.Payload = nil; b.LastSeq = b.FirstSeq - 1 },
		"garbage":         func(b *clewv1.Batch) { b.Payload = []byte("garbage") },
		"cut":             func(b *clewv1.Batch) { b.Payload = b.Payload[:len(b.Payload)/2] },
		"no id":           func(b *clewv1.Batch) { b.Id = "" },
		"long id":         func(b *clewv1.Batch) { b.Id = strings.Repeat("x", store.MaxIDLen+1) },
		"agent":           func(b *clewv1.Batch) { b.AgentId = "../../etc" },
		"numbers":         func(b *clewv1.Batch) { b.FirstSeq, b.LastSeq = b.LastSeq, b.FirstSeq },
		"foreign numbers": func(b *clewv1.Batch) { b.FirstSeq, b.LastSeq = 1000, 2000 },
		"empty record": func(b *clewv1.Batch) {
			b.Payload = batch(t, storetest.Agent1, 7, []*event.SpoolRecord{{Seq: 1}}).Payload
		},
		"hollow event": func(b *clewv1.Batch) {
			b.Payload = batch(t, storetest.Agent1, 7, []*event.SpoolRecord{{Seq: 1, Event: &event.Event{Kind: event.KindOpen, Run: 7, Seq: 1}}}).Payload
		},
		"unknown kind": func(b *clewv1.Batch) {
			b.Payload = batch(t, storetest.Agent1, 7, []*event.SpoolRecord{{Seq: 1, Event: &event.Event{Kind: 200, Run: 7, Seq: 1}}}).Payload
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustConnect(t, data, hello(storetest.Agent1, 7))
			b := &clewv1.Batch{Id: good.Id, AgentId: good.AgentId, Run: good.Run, FirstSeq: good.FirstSeq, LastSeq: good.LastSeq, Payload: good.Payload}
			change(b)
			ack, err := p.push(b)
			if connect.CodeOf(err) != connect.CodeInvalidArgument {
				t.Errorf("answer %v, error %v", ack, err)
			}
		})
	}
	if n := len(search(t, f.client, &clewv1.SearchEventsRequest{}).Items); n != 0 {
		t.Errorf("%d events stored", n)
	}
	aside, err := os.ReadDir(filepath.Join(data, "server", "refused"))
	if err != nil || len(aside) == 0 {
		t.Errorf("set aside: %v, error %v", aside, err)
	}
	for name, h := range map[string]*clewv1.Hello{
		"newer protocol": {AgentId: storetest.Agent1, Protocol: wire.Protocol + 1},
		"no agent":       {AgentId: "x", Protocol: wire.Protocol},
	} {
		if _, _, err := connectAgent(t, data, h); err == nil || connect.CodeOf(err) == connect.CodeUnknown {
			t.Errorf("%s: error %v", name, err)
		}
	}
	mustConnect(t, data, hello(storetest.Agent1, 7)).mustPush(good)
}

func TestEventViews(t *testing.T) {
	data := shortDir(t)
	f := start(t, data)
	mustConnect(t, data, hello(storetest.Agent1, 7)).mustPush(batch(t, storetest.Agent1, 7, attackRecords(7)))
	for name, c := range map[string]struct {
		req  *clewv1.SearchEventsRequest
		want int
	}{
		"kind":    {&clewv1.SearchEventsRequest{Kinds: []string{"open"}}, 50},
		"kinds":   {&clewv1.SearchEventsRequest{Kinds: []string{"open", "exec"}}, 100},
		"context": {&clewv1.SearchEventsRequest{ContextKey: storetest.ContextKey(8)}, 4},
		"rule":    {&clewv1.SearchEventsRequest{RuleId: storetest.RuleID(10)}, 7},
		"text":    {&clewv1.SearchEventsRequest{Text: "000009.log"}, 1},
	} {
		if got := search(t, f.client, c.req); len(got.Items) != c.want {
			t.Errorf("%s: %d events, want %d", name, len(got.Items), c.want)
		}
	}
	opens := search(t, f.client, &clewv1.SearchEventsRequest{Kinds: []string{"open"}, Limit: 1})
	v := opens.Items[0]
	if opens.NextCursor == "" || v.Kind != "open" || v.Host != "web-1" || v.ContextKey != storetest.ContextKey(5) {
		t.Errorf("view %v", v)
	}
	for field, want := range map[string]any{
		"open.file.path": "/var/lib/app/data/000005.log", "open.file.inode": "18014398509481984", "open.flags": 33345.0,
		"process.file.path": "/usr/bin/tool", "process.args": "--input /srv/in/000004", "process.uid": 33.0, "process.is_exec": true, "process.envs": []any{"PATH", "HOME", "LANG"},
	} {
		if d := cmp.Diff(want, v.Fields.AsMap()[field]); d != "" {
			t.Errorf("%s: %s", field, d)
		}
	}
	var text strings.Builder
	for _, span := range v.Text {
		text.WriteString(span.T)
	}
	if want := "tool emptied /var/lib/app/data/000005.log"; text.String() != want {
		t.Errorf("text %q, want %q", text.String(), want)
	}
	if _, ok := v.Fields.Fields["open.retval"]; ok {
		t.Error("a field that is zero is shown")
	}
	byID := search(t, f.client, &clewv1.SearchEventsRequest{Ids: []string{v.Id}})
	if len(byID.Items) != 1 || byID.Items[0].Id != v.Id {
		t.Errorf("by id: %v", byID.Items)
	}
	for name, req := range map[string]*clewv1.SearchEventsRequest{
		"time": {From: &timestamppb.Timestamp{Seconds: 1 << 40}}, "kind": {Kinds: []string{"nonsense"}}, "id": {Ids: []string{"ev_1"}}, "cursor": {Cursor: "nonsense"},
	} {
		if _, err := f.client.Events.SearchEvents(context.Background(), connect.NewRequest(req)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestWatchAndTail(t *testing.T) {
	data := shortDir(t)
	f := start(t, data)
	p := mustConnect(t, data, hello(storetest.Agent1, 7))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tail, err := f.client.Events.TailEvents(ctx, connect.NewRequest(&clewv1.TailEventsRequest{Kinds: []string{"exec"}}))
	if err != nil || !tail.Receive() {
		t.Fatal(err, tail.Err())
	}
	defer tail.Close()
	watch, err := f.client.Stories.WatchStories(ctx, connect.NewRequest(&clewv1.WatchStoriesRequest{}))
	if err != nil || !watch.Receive() || len(watch.Msg().Items) != 0 {
		t.Fatal(err, watch.Err(), watch.Msg())
	}
	defer watch.Close()
	p.mustPush(batch(t, storetest.Agent1, 7, attackRecords(7)))
	for n := 0; n < 50; {
		if !tail.Receive() {
			t.Fatal(tail.Err())
		}
		for _, v := range tail.Msg().Items {
			if n++; v.Kind != "exec" {
				t.Errorf("kind %s", v.Kind)
			}
		}
	}
	if !watch.Receive() || len(watch.Msg().Items) == 0 {
		t.Fatal(watch.Err(), watch.Msg())
	}
	id := watch.Msg().Items[0].Id

	// Triage is seen by watchers, survives a restart and is checked.
	set, err := f.client.Stories.SetTriage(ctx, connect.NewRequest(&clewv1.SetTriageRequest{Id: id, State: "under_review", Comment: "looking"}))
	if err != nil || set.Msg.Story.State != "under_review" {
		t.Fatal(err, set)
	}
	if !watch.Receive() || watch.Msg().Items[0].Id != id {
		t.Fatal(watch.Err(), watch.Msg())
	}
	for _, req := range []*clewv1.SetTriageRequest{{Id: id, State: "gone"}, {Id: id, Verdict: "maybe"}, {Id: id}} {
		if _, err := f.client.Stories.SetTriage(ctx, connect.NewRequest(req)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: error %v", req, err)
		}
	}
	if _, err := f.client.Stories.SetTriage(ctx, connect.NewRequest(&clewv1.SetTriageRequest{Id: "st_000000000000", State: "open"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("unknown story: %v", err)
	}
	f.stop()
	f = start(t, data)
	got, err := f.client.Stories.GetStory(ctx, connect.NewRequest(&clewv1.GetStoryRequest{Id: id}))
	if err != nil || got.Msg.Story.State != "under_review" || len(got.Msg.Story.Activity) == 0 || got.Msg.Story.Activity[0].By != fmt.Sprintf("local:%d", os.Getuid()) {
		t.Errorf("after a restart: %v %v", err, got)
	}
}

func TestStoryPages(t *testing.T) {
	data := shortDir(t)
	f := start(t, data)
	recs := attackRecords(7)
	for i := range 50 {
		recs = append(recs, &event.SpoolRecord{Context: &event.Context{Key: fmt.Sprintf("sudo_%04d", i), Layer: "sudo", Priority: 48, At: storetest.Epoch, Episodic: true}})
	}
	for i, r := range recs {
		r.Seq = uint64(i + 1)
	}
	mustConnect(t, data, hello(storetest.Agent1, 7)).mustPush(batch(t, storetest.Agent1, 7, recs))
	all, err := f.client.Stories.ListStories(context.Background(), connect.NewRequest(&clewv1.ListStoriesRequest{Limit: 500}))
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Msg.Items) < 10 {
		t.Fatalf("%d stories", len(all.Msg.Items))
	}
	var ids []string
	req := &clewv1.ListStoriesRequest{Limit: 3}
	for {
		resp, err := f.client.Stories.ListStories(context.Background(), connect.NewRequest(req))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range resp.Msg.Items {
			ids = append(ids, s.Id)
		}
		if req.Cursor = resp.Msg.NextCursor; req.Cursor == "" {
			break
		}
	}
	var want []string
	for _, s := range all.Msg.Items {
		want = append(want, s.Id)
	}
	if d := cmp.Diff(want, ids); d != "" {
		t.Errorf("pages differ from the whole (-want +got):\n%s", d)
	}
	for _, req := range []*clewv1.ListStoriesRequest{{Cursor: "x"}, {States: []string{"gone"}}} {
		if _, err := f.client.Stories.ListStories(context.Background(), connect.NewRequest(req)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: error %v", req, err)
		}
	}
}

// web makes a request to the page's address.
func (f *fixture) web(c *http.Client, method, path string, body string, header map[string]string) *http.Response {
	f.t.Helper()
	req, err := http.NewRequest(method, "http://"+f.addr+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for k, v := range header {
		if k == "Host" {
			req.Host = v
		} else {
			req.Header.Set(k, v)
		}
	}
	resp, err := c.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRemoteAccess(t *testing.T) {
	f := start(t, shortDir(t))
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	anyone := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	browser := &http.Client{Transport: tr, Jar: jar, CheckRedirect: anyone.CheckRedirect}
	const list = "/clew.v1.StoryService/ListStories"
	page := map[string]string{"Content-Type": "application/json", "Connect-Protocol-Version": "1"}

	// Nobody is let in for being near.
	for _, path := range []string{list, "/clew.v1.SessionService/CreateLogin", "/clew.v1.FleetService/GetStatus", "/clew.v1.IngestService/Push", "/clew.v1.Nonsense/X"} {
		resp := f.web(anyone, "POST", path, "{}", page)
		var doc struct{ Code string }
		if err := json.Unmarshal([]byte(bodyOf(t, resp)), &doc); err != nil || resp.StatusCode != 401 || doc.Code != "unauthenticated" {
			t.Errorf("%s: %d %v %v", path, resp.StatusCode, doc, err)
		}
	}
	if resp := f.web(anyone, "POST", list, "{}", map[string]string{"Content-Type": "application/json", "Authorization": "Bearer nonsense"}); resp.StatusCode != 401 {
		t.Errorf("unknown token: %d", resp.StatusCode)
	}
	for host, want := range map[string]int{
		"evil.example": 421, "": 200, "clew.example": 200, "CLEW.example:8844": 200, "localhost:1": 200, "[::1]:8844": 200, "127.0.0.1.evil.example": 421, "0.0.0.0": 421,
	} {
		h := map[string]string{}
		if host != "" {
			h["Host"] = host
		}
		if resp := f.web(anyone, "GET", "/", "", h); resp.StatusCode != want {
			t.Errorf("host %q: %d, want %d", host, resp.StatusCode, want)
		}
	}

	// The link works once, and not for a preview.
	login, err := f.client.Session.CreateLogin(context.Background(), connect.NewRequest(&clewv1.CreateLoginRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	link, ok := strings.CutPrefix(login.Msg.Url, "http://"+f.addr)
	if !ok {
		t.Fatalf("link %s", login.Msg.Url)
	}
	if resp := f.web(anyone, "HEAD", link, "", nil); resp.StatusCode != 405 {
		t.Errorf("HEAD: %d", resp.StatusCode)
	}
	resp := f.web(browser, "GET", link, "", nil)
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/" || len(resp.Cookies()) != 1 {
		t.Fatalf("login: %d %v", resp.StatusCode, resp.Header)
	}
	if c := resp.Cookies()[0]; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" {
		t.Errorf("cookie %v", c)
	}
	if resp := f.web(anyone, "GET", link, "", nil); resp.StatusCode != 401 {
		t.Errorf("the link works twice: %d", resp.StatusCode)
	}

	// With a session, but only from our page.
	if resp := f.web(browser, "POST", list, "{}", page); resp.StatusCode != 200 || !strings.HasPrefix(bodyOf(t, resp), `{"items":[]`) {
		t.Errorf("with a session: %d", resp.StatusCode)
	}
	for name, change := range map[string][2]string{
		"no header": {"Connect-Protocol-Version", ""}, "other origin": {"Origin", "http://evil.example"}, "cross site": {"Sec-Fetch-Site", "cross-site"}, "other port": {"Sec-Fetch-Site", "same-site"},
	} {
		h := map[string]string{}
		for k, v := range page {
			h[k] = v
		}
		h[change[0]] = change[1]
		if resp := f.web(browser, "POST", list, "{}", h); resp.StatusCode != 403 {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	if resp := f.web(browser, "GET", list+"?message=%7B%7D&encoding=json&connect=v1", "", nil); resp.StatusCode == 200 {
		t.Errorf("a link of another site is answered")
	}

	// Links are made on the host only, even for an admin.
	if resp := f.web(browser, "POST", "/clew.v1.SessionService/CreateLogin", "{}", page); resp.StatusCode != 403 {
		t.Errorf("link by network: %d", resp.StatusCode)
	}
	if resp := f.web(browser, "POST", "/logout", "", page); resp.StatusCode != 204 {
		t.Errorf("logout: %d", resp.StatusCode)
	}
	if resp := f.web(browser, "POST", list, "{}", page); resp.StatusCode != 401 {
		t.Errorf("after logout: %d", resp.StatusCode)
	}
}

func TestTokens(t *testing.T) {
	f := start(t, shortDir(t))
	ctx := context.Background()
	made, err := f.client.Session.CreateToken(ctx, connect.NewRequest(&clewv1.CreateTokenRequest{Name: "ci"}))
	if err != nil {
		t.Fatal(err)
	}
	remote, err := client.New(client.Config{URL: "http://" + f.addr, Token: made.Msg.Token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	who, err := remote.Session.WhoAmI(ctx, connect.NewRequest(&clewv1.WhoAmIRequest{}))
	if err != nil || who.Msg.Actor != "token:ci" || who.Msg.Role != "viewer" {
		t.Errorf("who am I: %v %v", who, err)
	}
	// A viewer looks and changes nothing.
	status(t, remote)
	_, err = remote.Stories.SetTriage(ctx, connect.NewRequest(&clewv1.SetTriageRequest{Id: "x", State: "open"}))
	if connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a viewer triages: %v", err)
	}
	_, err = remote.Session.CreateToken(ctx, connect.NewRequest(&clewv1.CreateTokenRequest{Name: "more", Role: "admin"}))
	if connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a viewer makes a token: %v", err)
	}
	for name, req := range map[string]*clewv1.CreateTokenRequest{"role": {Name: "a", Role: "king"}, "name": {Name: "a b"}, "none": {Name: "a", Role: "none"}} {
		if _, err := f.client.Session.CreateToken(ctx, connect.NewRequest(req)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := f.client.Session.CreateToken(ctx, connect.NewRequest(&clewv1.CreateTokenRequest{Name: "ci"})); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("the same name again: %v", err)
	}
	if _, err := f.client.Session.RemoveToken(ctx, connect.NewRequest(&clewv1.RemoveTokenRequest{Name: "ci"})); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Session.WhoAmI(ctx, connect.NewRequest(&clewv1.WhoAmIRequest{})); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("a removed token works: %v", err)
	}
}

func TestPage(t *testing.T) {
	f := start(t, shortDir(t))
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c := &http.Client{Transport: tr}
	var nonces []string
	for path, want := range map[string]string{"/": "the page", "/stories/st_1": "the page", "/index.html": "the page", "/assets/app.js": "app", "/favicon.svg": "<svg/>"} {
		resp := f.web(c, "GET", path, "", nil)
		body := bodyOf(t, resp)
		if resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; script-src 'self'; style-src 'self'") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", path, resp.Header)
		}
		if _, rest, ok := strings.Cut(csp, "'nonce-"); ok {
			nonce, _, _ := strings.Cut(rest, "'")
			if !strings.Contains(body, nonce) {
				t.Errorf("%s: the page does not have the nonce of its policy", path)
			}
			nonces = append(nonces, nonce)
		}
	}
	if len(nonces) != 3 || nonces[0] == nonces[1] {
		t.Errorf("nonces %v", nonces)
	}
	for path, want := range map[string]int{"/assets/none.js": 404, "/../../etc/passwd": 404, "/nothing": 404} {
		if resp := f.web(c, "GET", path, "", nil); resp.StatusCode != want || strings.Contains(bodyOf(t, resp), "root:") {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if resp := f.web(c, "POST", "/", "", nil); resp.StatusCode != 405 {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

// A process is a server of its own.
type process struct {
	cmd *exec.Cmd
	err *bytes.Buffer
}

func spawn(t *testing.T, data, listen string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe), err: new(bytes.Buffer)}
	p.cmd.Env = append(os.Environ(), envServer+"="+data, "CLEW_TEST_LISTEN="+listen)
	p.cmd.Stderr = p.err
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("server said:\n%s", p.err)
		}
	})
	return p
}

func awaitServer(t *testing.T, data string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if _, err := c.Fleet.GetStatus(context.Background(), connect.NewRequest(&clewv1.GetStatusRequest{})); err != nil {
			return err.Error()
		}
		return ""
	})
	return c
}

// TestProcess looks at a real server process from outside, kills it while
// batches come in, and counts what a new one has.
func TestProcess(t *testing.T) {
	data := shortDir(t)
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(data, "agent"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := spawn(t, data, "127.0.0.1:0")
	awaitServer(t, data)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	facts := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		facts[name] = strings.TrimSpace(value)
	}
	for name, want := range map[string]string{"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"} {
		if facts[name] != want {
			t.Errorf("%s is %s, want %s", name, facts[name], want)
		}
	}
	if uid, _, _ := strings.Cut(facts["Uid"], "\t"); uid == "0" {
		t.Error("the server is root")
	}

	acked := 0
	push := func(kill int) {
		t.Helper()
		conn := mustConnect(t, data, hello(storetest.Agent1, 7))
		for i := range 40 {
			if i == kill {
				// While the next batch is under way.
				go func() { _ = p.cmd.Process.Kill() }()
			}
			ack, err := conn.push(batch(t, storetest.Agent1, 7, storetest.Events(7, uint64(4+500*i), 500)))
			if err != nil {
				return
			}
			if ack != nil {
				acked = max(acked, i+1)
			}
		}
	}
	push(20)
	_ = p.cmd.Wait() // it was killed
	if acked < 20 || acked > 39 {
		t.Fatalf("%d batches were acknowledged", acked)
	}
	p = spawn(t, data, "127.0.0.1:0")
	c := awaitServer(t, data)
	count := func() int64 {
		st, err := c.Fleet.GetStatus(context.Background(), connect.NewRequest(&clewv1.GetStatusRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		return st.Msg.Server.Events
	}
	if n := count(); n < int64(500*acked) || n%500 != 0 {
		t.Errorf("%d events stored of %d acknowledged", n, 500*acked)
	}
	push(-1) // its stream stays open while the server stops
	if n := count(); n != 20_000 {
		t.Errorf("%d events stored of 20000, each sent at least once", n)
	}
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v to end", took)
	}
}

// TestTrouble starts servers that cannot work: each ends with status 1 and a
// sentence.
func TestTrouble(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name, listen, want string
		prepare            func(t *testing.T, data string)
	}{
		{"port taken", taken.Addr().String(), "is taken by another program", func(*testing.T, string) {}},
		{"second server", "127.0.0.1:0", "another server uses the data", func(t *testing.T, data string) {
			spawn(t, data, "127.0.0.1:0")
			awaitServer(t, data)
		}},
		{"file in the way", "127.0.0.1:0", "data directory", func(t *testing.T, data string) {
			if err := os.WriteFile(filepath.Join(data, "server"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"no address", "nonsense", "want HOST:PORT", func(*testing.T, string) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := shortDir(t)
			if err := os.Chmod(data, 0o755); err != nil {
				t.Fatal(err)
			}
			c.prepare(t, data)
			p := spawn(t, data, c.listen)
			err := p.cmd.Wait()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(p.err.String(), c.want) {
				t.Errorf("ended with %v, said %q", err, p.err)
			}
		})
	}
}
