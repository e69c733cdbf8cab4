package ruleset_test

import (
	"strings"
	"testing"
)

// TestNormal shows rules as they are understood, and that what is shown means
// the same.
func TestNormal(t *testing.T) {
	const macros = `
macros:
  - {id: SHELLS, values: [sh, '~"b*sh"']}
  - {id: ROOT, expression: exec.uid == 0 || exec.euid == 0}
  - {id: ROOT_SHELL, expression: ROOT && exec.file.name in SHELLS}
rules:
  - id: r
    expression: |-
      `
	for _, tc := range []struct{ expr, want, fields string }{
		{`ROOT_SHELL`, `(exec.uid == 0 || exec.euid == 0) && exec.file.name in [ "sh", ~"b*sh" ]`, "exec.euid exec.file.name exec.uid"},
		{`!ROOT && exec.basename == "x"`, `!(exec.uid == 0 || exec.euid == 0) && exec.file.name == "x"`, "exec.euid exec.file.name exec.uid"},
		{`exec.comm == "a" || exec.comm == "b" && exec.uid == 1`, `exec.comm == "a" || (exec.comm == "b" && exec.uid == 1)`, "exec.comm exec.uid"},
		{`chmod.filename == "/x" && chmod.mode & S_ISUID > 0`, `chmod.file.path == "/x" && chmod.file.destination.mode & S_ISUID > 0`,
			"chmod.file.destination.mode chmod.file.path"},
		{`fim.write.file.name == "x"`, `fim.write.file.name == "x"`,
			"chmod.file.name chown.file.name link.file.name open.file.name open.flags rename.file.destination.name rename.file.name unlink.file.name utimes.file.name"},
	} {
		set := loadRules(t, macros+tc.expr+"\n")
		r := set.Rules()[0]
		if got := set.Normal(r); len(got) != 1 || got[0] != tc.want {
			t.Errorf("%s: got %q, want %s", tc.expr, got, tc.want)
		}
		if got := strings.Join(set.Fields(r), " "); got != tc.fields {
			t.Errorf("%s: got %s, want %s", tc.expr, got, tc.fields)
		}
		again := loadRules(t, "rules:\n  - id: r\n    expression: |-\n      "+tc.want+"\n")
		if got := again.Normal(again.Rules()[0])[0]; got != tc.want {
			t.Errorf("%s: shown again: %s", tc.expr, got)
		}
		e := build(t, `{kind: exec, lineage: [{exec: /bin/bash, uid: 0}]}`)
		if a, b := ids(set.Eval(e, nil)), ids(again.Eval(e, nil)); a != b {
			t.Errorf("%s: %q, and as it is shown %q", tc.expr, a, b)
		}
	}
}
