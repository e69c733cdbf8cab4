// Command kindspage writes docs/reference/kinds-by-kernel.md from what the
// sensor's tests found out on each kernel (internal/sensor/testdata/rows).
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// row is as internal/sensor/rows_test.go writes it.
type row struct {
	Arch   string `json:"arch"`
	Kernel string `json:"kernel"`
	From   string `json:"from"`
	Mode   string `json:"mode"`
	Kinds  []struct {
		Kind   string `json:"kind"`
		Status string `json:"status"`
		Reason string `json:"reason"`
	} `json:"kinds"`
}

func main() {
	if err := run("internal/sensor/testdata/rows", "docs/reference/kinds-by-kernel.md"); err != nil {
		fmt.Fprintln(os.Stderr, "kindspage:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	names, err := filepath.Glob(filepath.Join(from, "*.json"))
	if err != nil {
		return err
	}
	var rows []row
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var r row
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, r)
	}
	return os.WriteFile(to, []byte(page(rows)), 0o644)
}

const head = `<!-- Written by tools/kindspage from internal/sensor/testdata/rows; do not edit. -->

# Kinds of event by kernel and mode

What the sensor's tests found out: on each kernel they make an event of each kind with real system calls, and hold that it is
seen where ` + "`clew doctor`" + ` says so, and not where it says otherwise. How the tests run is in [testing.md](../testing.md), what is
missing in general in [limits.md](../limits.md). *Debian* are Debian's own kernels in virtual machines; *host* is a kernel of a
development machine, built without modules, that refuses trampolines.

**ok**: everything. **degraded** with a number: seen, except for what the note says. **–** with a number: not seen, for the
reason in the note. An empty cell: no kind of the version that ran there.

`

func page(rows []row) string {
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Mode, b.Mode), cmp.Compare(version(a.Kernel), version(b.Kernel)))
	})
	var kinds []string
	for _, r := range rows {
		for _, k := range r.Kinds {
			if !slices.Contains(kinds, k.Kind) {
				kinds = append(kinds, k.Kind)
			}
		}
	}
	slices.Sort(kinds)
	var b strings.Builder
	b.WriteString(head)
	b.WriteString("| Kind |")
	for _, r := range rows {
		fmt.Fprintf(&b, " %s %s, %s, %s |", r.Kernel, r.Mode, r.Arch, r.From)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(rows)) + "\n")
	var notes []string
	for _, kind := range kinds {
		fmt.Fprintf(&b, "| `%s` |", kind)
		for _, r := range rows {
			cell := ""
			for _, k := range r.Kinds {
				if k.Kind != kind {
					continue
				}
				if cell = k.Status; cell == "impossible" {
					cell = "–"
				}
				if k.Reason != "" {
					n := slices.Index(notes, k.Reason)
					if n < 0 {
						n = len(notes)
						notes = append(notes, k.Reason)
					}
					cell += fmt.Sprintf(" (%d)", n+1)
				}
			}
			b.WriteString(" " + cell + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Notes\n\n")
	for i, n := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, n)
	}
	return b.String()
}

// version makes kernels sort by number.
func version(s string) int {
	var major, minor int
	_, _ = fmt.Sscanf(s, "%d.%d", &major, &minor)
	return major*1000 + minor
}
