package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"no program", nil, 2, "usage: vmtest"},
		{"help", []string{"-h"}, 0, "usage: vmtest"},
		{"unknown flag", []string{"-bios", "x"}, 2, "not defined: -bios"},
		{"absent program", []string{"--", "/nonexistent"}, trouble, "/nonexistent"},
		{"unknown architecture", []string{"-arch", "mips", "--", "/bin/true"}, trouble, `"mips"`},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(tt.args, &stdout, &stderr); status != tt.status || !strings.Contains(stderr.String(), tt.says) {
			t.Errorf("%s: status %d, %q; want %d and %q", tt.name, status, stderr.String(), tt.status, tt.says)
		}
		if stdout.Len() > 0 {
			t.Errorf("%s: output %q", tt.name, stdout.String())
		}
	}
}

func TestTestArgs(t *testing.T) {
	got := testArgs([]string{"-test.v=true", "-test.testlogfile=/tmp/x", "-test.run=A", "-test.testlogfile"})
	if want := []string{"-test.v=true", "-test.run=A", "-test.testlogfile"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
