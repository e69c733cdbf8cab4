package control

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/clewsec/clew/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func open(t *testing.T, path string, c *clock) *DB {
	t.Helper()
	d, err := Open(context.Background(), path, c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestLogin(t *testing.T) {
	ctx := context.Background()
	c := &clock{time.Unix(1_700_000_000, 0)}
	path := filepath.Join(t.TempDir(), "control.db")
	d := open(t, path, c)
	admin := Holder{"local:0", "admin"}
	secret, expires, err := d.CreateLogin(ctx, admin)
	if err != nil || expires != c.t.Add(15*time.Minute) {
		t.Fatal(expires, err)
	}
	if _, err := d.Session(ctx, secret); !errors.Is(err, ErrCredential) {
		t.Errorf("a login secret is taken for a session: %v", err)
	}
	session, _, err := d.UseLogin(ctx, secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.UseLogin(ctx, secret); !errors.Is(err, ErrCredential) {
		t.Errorf("the link works twice: %v", err)
	}
	if h, err := d.Session(ctx, session); err != nil || h != admin {
		t.Errorf("holder %v, error %v", h, err)
	}
	if _, err := d.Token(ctx, session); !errors.Is(err, ErrCredential) {
		t.Errorf("a session is taken for a token: %v", err)
	}
	c.t = c.t.Add(SessionLife)
	if _, err := d.Session(ctx, session); !errors.Is(err, ErrCredential) {
		t.Errorf("an old session works: %v", err)
	}
	late, _, err := d.CreateLogin(ctx, admin)
	if err != nil {
		t.Fatal(err)
	}
	c.t = c.t.Add(LoginLife)
	if _, _, err := d.UseLogin(ctx, late); !errors.Is(err, ErrCredential) {
		t.Errorf("a link works after its time: %v", err)
	}
	again, _, err := d.CreateLogin(ctx, admin)
	if err != nil {
		t.Fatal(err)
	}
	if session, _, err = d.UseLogin(ctx, again); err != nil {
		t.Fatal(err)
	}
	if err := d.EndSession(ctx, session); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Session(ctx, session); !errors.Is(err, ErrCredential) {
		t.Errorf("an ended session works: %v", err)
	}
	for _, name := range []string{path, path + "-wal"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{secret, session, late, again} {
			if strings.Contains(string(b), s) {
				t.Error("the file holds a secret in clear")
			}
		}
	}
}

func TestToken(t *testing.T) {
	ctx := context.Background()
	d := open(t, filepath.Join(t.TempDir(), "control.db"), &clock{time.Unix(1_700_000_000, 0)})
	secret, err := d.CreateToken(ctx, "ci", Holder{"local:0", "viewer"})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := d.Token(ctx, secret); err != nil || h != (Holder{"token:ci", "viewer"}) {
		t.Errorf("holder %v, error %v", h, err)
	}
	if _, err := d.CreateToken(ctx, "ci", Holder{"local:0", "admin"}); !errors.Is(err, ErrExists) {
		t.Errorf("the name is taken twice: %v", err)
	}
	if err := d.RemoveToken(ctx, "ci", "local:0"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Token(ctx, secret); !errors.Is(err, ErrCredential) {
		t.Errorf("a removed token works: %v", err)
	}
	if err := d.RemoveToken(ctx, "ci", "local:0"); !errors.Is(err, ErrCredential) {
		t.Errorf("removed twice: %v", err)
	}
	log, err := d.AuditLog(ctx, 10)
	if err != nil || len(log) != 2 {
		t.Errorf("audit log %v, error %v", log, err)
	}
}

func TestTriageAndAgents(t *testing.T) {
	ctx := context.Background()
	c := &clock{time.Unix(1_700_000_000, 0)}
	path := filepath.Join(t.TempDir(), "control.db")
	d := open(t, path, c)
	want := []Triage{
		{StoryID: "st_1", At: 5, Actor: "a", State: "under_review"},
		{StoryID: "st_1", At: 6, Actor: "b", Verdict: "malicious", Comment: "seen"},
	}
	for _, tr := range []Triage{want[1], want[0], want[1]} {
		if err := d.AddTriage(ctx, tr); err != nil {
			t.Fatal(err)
		}
	}
	a := Agent{ID: "x", Host: "web-1", Mode: "none", Run: "07", LastSeen: 1}
	if err := d.PutAgent(ctx, a); err != nil {
		t.Fatal(err)
	}
	a.Mode, a.Recording, a.LastSeen = "replay", true, 2
	if err := d.PutAgent(ctx, a); err != nil {
		t.Fatal(err)
	}
	d = open(t, path, c) // and what another program sees
	var got []Triage
	if err := d.Triages(ctx, func(t Triage) { got = append(got, t) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	agents, err := d.Agents(ctx)
	if diff := cmp.Diff([]Agent{a}, agents); err != nil || diff != "" {
		t.Error(diff, err)
	}
}

func TestNewerVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.db")
	c := &clock{time.Unix(1_700_000_000, 0)}
	open(t, path, c)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), path, c.now)
	var v *store.VersionError
	if !errors.As(err, &v) || v.Have != 999 {
		t.Errorf("error %v", err)
	}
}
