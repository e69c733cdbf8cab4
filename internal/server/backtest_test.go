package server_test

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clewsec/clew/internal/client"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

// TestBacktestRoles lets an analyst evaluate rules on what is stored, and a
// viewer not.
func TestBacktestRoles(t *testing.T) {
	f := start(t, shortDir(t))
	ctx := context.Background()
	for role, want := range map[string]connect.Code{"viewer": connect.CodePermissionDenied, "analyst": 0} {
		tok, err := f.client.Session.CreateToken(ctx, connect.NewRequest(&clewv1.CreateTokenRequest{Name: role, Role: role}))
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(client.Config{URL: "http://" + f.addr, Token: tok.Msg.Token})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := c.Backtests.RunBacktest(ctx, connect.NewRequest(&clewv1.RunBacktestRequest{
			Files: []*clewv1.PolicyFile{{Name: "x.policy", Text: "rules:\n  - {id: x, expression: exec.uid == 0}\n"}}, From: timestamppb.New(time.Unix(0, 1)),
		}))
		if err != nil {
			t.Fatal(err)
		}
		results := 0
		for stream.Receive() {
			if r := stream.Msg().GetResult(); r != nil {
				results += len(r.Items)
			}
		}
		var code connect.Code
		if err := stream.Err(); err != nil {
			code = connect.CodeOf(err)
		}
		if code != want || (want == 0) != (results == 1) {
			t.Errorf("%s: %v, %d rules", role, stream.Err(), results)
		}
		if err := stream.Close(); err != nil && want == 0 {
			t.Error(err)
		}
	}
}
