package filehash

import (
	"fmt"
	"strings"
	"testing"
)

func TestDifference(t *testing.T) {
	var long strings.Builder
	for i := range 300 {
		fmt.Fprintf(&long, "line %d\n", i)
	}
	for _, tc := range []struct{ name, before, after, want string }{
		{"equal", "a\nb\n", "a\nb\n", ""},
		{"changed", "a\nb\nc\nd\ne\nf\n", "a\nb\nc\nX\ne\nf\n", "@@ -2 +2 @@\n b\n c\n-d\n+X\n e\n f\n"},
		{"added to nothing", "", "a\n", "@@ -1 +1 @@\n+a\n"},
		{"all removed", "a\n", "", "@@ -1 +1 @@\n-a\n"},
		{"appended without an end", "a\n", "a\nb", "@@ -1 +1 @@\n a\n+b\n"},
		{"two places", "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "0\n1\n2\n3\n4\n5\n6\n7\n8\n", "@@ -1 +1 @@\n+0\n 1\n 2\n@@ -7 +8 @@\n 7\n 8\n-9\n"},
		{"one line far inside", long.String(), strings.Replace(long.String(), "line 150\n", "", 1), "@@ -149 +149 @@\n line 148\n line 149\n-line 150\n line 151\n line 152\n"},
		{"all of it", long.String(), strings.ReplaceAll(long.String(), "line", "LINE"), "[more than 100 lines differ]\n"},
		{"a key", "a\n", "-----BEGIN PRIVATE KEY-----\nx\n", "[holds a private key]\n"},
		{"a long line", "", strings.Repeat("€", 300) + "\n", "@@ -1 +1 @@\n+" + strings.Repeat("€", 133) + "…\n"},
	} {
		if got := Difference([]byte(tc.before), []byte(tc.after)); got != tc.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
}

func TestSecret(t *testing.T) {
	for name, want := range map[string]bool{
		"/etc/shadow": true, "/etc/gshadow-": true, "/root/.ssh/id_ed25519": true, "/etc/ssl/private/x.crt": true, "/srv/app/.env": true, "/etc/krb5.keytab": true,
		"/root/.aws/config": true, "/etc/nginx/server.KEY": true, "/etc/passwd": false, "/etc/ssh/sshd_config": false, "/root/.ssh/authorized_keys": false,
		"/etc/crontab": false, "/etc/sudoers": false,
	} {
		if Secret(name) != want {
			t.Errorf("%s: %t, want %t", name, !want, want)
		}
	}
}

// FuzzDifference applies what it is told to the text before, where that is told
// whole, and must come to the text after.
func FuzzDifference(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nc\nd\n")
	f.Add("", "x")
	f.Add("a\na\na\n", "a\na\n")
	f.Fuzz(func(t *testing.T, before, after string) {
		d := Difference([]byte(before), []byte(after))
		if n := strings.Count(d, "\n"); n > maxDiffLines+2 {
			t.Fatalf("%d lines", n)
		}
		if (d == "") != (before == after) {
			t.Fatalf("%q to %q: %q", before, after, d)
		}
		edits := shortestEdit(lines([]byte(before)), lines([]byte(after)))
		if edits == nil {
			return
		}
		var from, to strings.Builder
		for _, e := range edits {
			if e.op != '+' {
				from.WriteString(e.line)
			}
			if e.op != '-' {
				to.WriteString(e.line)
			}
		}
		if from.String() != before || to.String() != after {
			t.Fatalf("%q to %q: edits %v", before, after, edits)
		}
	})
}
