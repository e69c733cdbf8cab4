package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRun runs it over a module with a test of each fate.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.test/m\n\ngo 1.24\n",
		"good/good_test.go": `package good
import "testing"
func TestGood(t *testing.T) { t.Log("quiet") }
func TestNot(t *testing.T) { t.Skip("needs a moon") }
`,
		"bad/bad_test.go": `package bad
import "testing"
func TestBad(t *testing.T) { t.Error("it broke") }
`,
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, tt := range []struct {
		args   []string
		status int
		want   []string
		not    string
	}{
		{[]string{"./good"}, 0, []string{`(?m)^ok\s+example.test/m/good`, `(?m)^1 tests were skipped:\n  example.test/m/good TestNot: .*needs a moon$`}, "quiet"},
		{[]string{"./..."}, 1, []string{`it broke`, `(?m)^FAIL\s+example.test/m/bad`, `needs a moon`}, "quiet"},
		{[]string{"./nowhere"}, 1, nil, "skipped"},
	} {
		var out, errs bytes.Buffer
		if status := run(tt.args, &out, &errs); status != tt.status {
			t.Errorf("%v: status %d, want %d\n%s%s", tt.args, status, tt.status, &out, &errs)
		}
		for _, want := range tt.want {
			if !regexp.MustCompile(want).MatchString(out.String()) {
				t.Errorf("%v: no %q in\n%s", tt.args, want, &out)
			}
		}
		if strings.Contains(out.String(), tt.not) {
			t.Errorf("%v: %q in\n%s", tt.args, tt.not, &out)
		}
	}
}
