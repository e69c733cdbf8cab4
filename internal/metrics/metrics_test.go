package metrics

import (
	"bytes"
	"os"
	"testing"
)

// TestDeclared holds that every metric is declared, once, and named as
// Prometheus wants it.
func TestDeclared(t *testing.T) {
	names := map[string]bool{}
	for _, d := range All() {
		if d.Name == "" {
			t.Errorf("metric %d is not declared", d.ID)
			continue
		}
		if names[d.Name] {
			t.Errorf("%s is declared twice", d.Name)
		}
		names[d.Name] = true
		if msg := d.Check(); msg != "" {
			t.Errorf("%s: %s", d.Name, msg)
		}
	}
}

// TestPage holds that the page is the one that the list gives.
func TestPage(t *testing.T) {
	want, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := WritePage(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("docs/reference/metrics.md is stale; run make generate")
	}
}
