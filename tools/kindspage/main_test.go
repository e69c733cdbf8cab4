package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestPage(t *testing.T) {
	var rows []row
	if err := json.Unmarshal([]byte(`[
		{"arch":"amd64","kernel":"6.12","from":"Debian","mode":"trampoline","kinds":[{"kind":"open","status":"ok"},{"kind":"bpf","status":"degraded","reason":"no helpers"}]},
		{"arch":"amd64","kernel":"6.1","from":"Debian","mode":"trampoline","kinds":[{"kind":"open","status":"impossible","reason":"old"},{"kind":"bpf","status":"degraded","reason":"no helpers"}]}
	]`), &rows); err != nil {
		t.Fatal(err)
	}
	got := page(rows)
	for _, want := range []string{
		"| Kind | 6.1 trampoline, amd64, Debian | 6.12 trampoline, amd64, Debian |\n",
		"| `bpf` | degraded (1) | degraded (1) |\n",
		"| `open` | – (2) | ok |\n",
		"1. no helpers\n2. old\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
