package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/gen/clew/v1/clewv1connect"
	"github.com/clewsec/clew/internal/store/sqlite"
	"github.com/clewsec/clew/internal/store/storetest"
)

// backtestFixture serves back-tests over generated events, to anybody.
func backtestFixture(t *testing.T) (*backtests, clewv1connect.BacktestServiceClient) {
	t.Helper()
	st, err := sqlite.Open(context.Background(), sqlite.Config{Dir: t.TempDir()}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	recs := storetest.Events(7, 4, 400)
	recs = append(recs, &event.SpoolRecord{Seq: recs[len(recs)-1].Seq + 1, RunStart: &event.RunStart{Run: 7, HostID: storetest.Agent1, Hostname: "web-\xff1", At: storetest.Epoch}})
	if _, err := st.Append(context.Background(), storetest.Batch(storetest.Agent1, 7, recs)); err != nil {
		t.Fatal(err)
	}
	b := newBacktests(Config{Store: st, Now: time.Now})
	mux := http.NewServeMux()
	mux.Handle(clewv1connect.NewBacktestServiceHandler(b))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return b, clewv1connect.NewBacktestServiceClient(srv.Client(), srv.URL)
}

func backtestRequest(policy string) *clewv1.RunBacktestRequest {
	return &clewv1.RunBacktestRequest{
		Files: []*clewv1.PolicyFile{{Name: "own.policy", Text: policy}},
		From:  timestamppb.New(time.Unix(0, storetest.Epoch)), To: timestamppb.New(time.Unix(0, storetest.Epoch+1e9)),
	}
}

// runBacktest returns what a back-test says until it ends.
func runBacktest(ctx context.Context, c clewv1connect.BacktestServiceClient, req *clewv1.RunBacktestRequest) (rules *clewv1.BacktestRules, res *clewv1.BacktestResult, err error) {
	stream, err := c.RunBacktest(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, nil, err
	}
	defer stream.Close()
	for stream.Receive() {
		m := stream.Msg()
		if m.GetRules() != nil {
			rules = m.GetRules()
		}
		if m.GetResult() != nil {
			res = m.GetResult()
		}
	}
	return rules, res, stream.Err()
}

const twoRules = `
rules:
  - id: opened
    expression: open.file.path =~ "/var/lib/app/**" && process.file.name == "tool"
  - id: wrong
    expression: open.fil.path == "/x"
`

func TestBacktest(t *testing.T) {
	_, c := backtestFixture(t)
	rules, res, err := runBacktest(context.Background(), c, backtestRequest(twoRules))
	if err != nil {
		t.Fatal(err)
	}
	if len(rules.GetItems()) != 2 || len(rules.GetProblems()) != 1 {
		t.Fatalf("rules %v", rules)
	}
	p := rules.Problems[0]
	if p.Severity != "error" || p.RuleId != "wrong" || p.File != "own.policy" || p.Line != 6 || p.Column != 17 || p.Source == "" || p.Carets == "" {
		t.Errorf("problem %v", p)
	}
	if len(res.GetItems()) != 2 || len(res.Hosts) != 1 || res.Hosts[0].Name != `web-\xff1` {
		t.Fatalf("result %v", res)
	}
	if r := res.Items[0]; r.Id != "opened" || r.Matches != 100 || !r.Collected || r.Bound != "at_least" || len(r.EventIds) != 5 || len(r.Shares) == 0 {
		t.Errorf("rule %v", r)
	}
	if r := res.Items[1]; r.Id != "wrong" || r.Status != "error" || r.Collected {
		t.Errorf("rule %v", r)
	}
}

func TestBacktestRefused(t *testing.T) {
	b, c := backtestFixture(t)
	for name, change := range map[string]func(*clewv1.RunBacktestRequest){
		"files is empty":          func(r *clewv1.RunBacktestRequest) { r.Files = nil },
		"more than 20000 files":   func(r *clewv1.RunBacktestRequest) { r.Files = make([]*clewv1.PolicyFile, maxPolicyFiles+1) },
		"from must be there":      func(r *clewv1.RunBacktestRequest) { r.From = nil },
		"from must be there, and": func(r *clewv1.RunBacktestRequest) { r.To = r.From },
		"no events at that time":  func(r *clewv1.RunBacktestRequest) { r.To = timestamppb.New(time.Unix(1<<40, 0)) },
		"there is no host":        func(r *clewv1.RunBacktestRequest) { r.Host = "elsewhere" },
		"host's name is too long": func(r *clewv1.RunBacktestRequest) { r.Host = strings.Repeat("x", maxText+1) },
	} {
		req := backtestRequest(twoRules)
		change(req)
		if _, _, err := runBacktest(context.Background(), c, req); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if len(b.slots) != 0 {
		t.Errorf("%d slots are taken", len(b.slots))
	}
}

// TestBacktestSlots lets two back-tests run at once and no more.
func TestBacktestSlots(t *testing.T) {
	b, c := backtestFixture(t)
	for range maxBacktests {
		b.slots <- struct{}{}
	}
	if _, _, err := runBacktest(context.Background(), c, backtestRequest(twoRules)); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("a third one: error %v", err)
	}
	<-b.slots
	if _, res, err := runBacktest(context.Background(), c, backtestRequest(twoRules)); err != nil || res == nil {
		t.Errorf("a second one: error %v", err)
	}
	if len(b.slots) != maxBacktests-1 {
		t.Errorf("%d slots are taken", len(b.slots))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := runBacktest(ctx, c, backtestRequest(twoRules)); connect.CodeOf(err) != connect.CodeCanceled {
		t.Errorf("a caller who went: error %v", err)
	}
}

// TestBacktestNeeds holds that those who may only look may not ask.
func TestBacktestNeeds(t *testing.T) {
	if got := Needs()[clewv1connect.BacktestServiceRunBacktestProcedure].String(); got != "analyst" {
		t.Errorf("role %s", got)
	}
}
