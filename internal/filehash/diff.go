package filehash

import (
	"bytes"
	"fmt"
	"path"
	"strings"
)

// Limits of a difference.
const (
	maxDiffLines = 100 // lines of it, those around the changed ones included
	maxDiffLine  = 400 // bytes of a line
	diffContext  = 2   // unchanged lines around
)

// secretNames are parts of names of files that hold secrets.
var secretNames = []string{
	"shadow", "secret", "password", "passwd-", "credential", "private", "token", "keytab", "htpasswd", "kubeconfig", "pgpass", "netrc", "my.cnf", "vault", "wallet",
}

// secretEndings are how such names end.
var secretEndings = []string{".key", ".pem", ".p12", ".pfx", ".jks", ".kdbx", ".gpg", ".asc", ".age", ".ovpn", ".env", "_rsa", "_dsa", "_ecdsa", "_ed25519"}

// Secret tells whether a file looks, by its path, as if it held secrets. Of such
// a file no text is read, and no difference told. It knows the usual names; what
// it misses is a secret in a file that is called as if it had none.
func Secret(name string) bool {
	lower := strings.ToLower(name)
	base := path.Base(lower)
	for _, s := range secretNames {
		if strings.Contains(base, s) {
			return true
		}
	}
	for _, s := range secretEndings {
		if strings.HasSuffix(base, s) {
			return true
		}
	}
	for _, dir := range []string{"/ssl/private/", "/secrets/", "/pki/", "/.gnupg/", "/.aws/", "/.docker/", "/.kube/"} {
		if strings.Contains(lower, dir) {
			return true
		}
	}
	return false
}

// Difference is what changed between two texts, in unified form without a head:
// lines with a space, - or + before them. It is empty when they are equal, and
// says so when they differ too much, or hold a private key.
func Difference(before, after []byte) string {
	if bytes.Equal(before, after) {
		return ""
	}
	for _, text := range [][]byte{before, after} {
		if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
			return "[holds a private key]\n"
		}
	}
	a, b := lines(before), lines(after)
	edits := shortestEdit(a, b)
	if edits == nil {
		return fmt.Sprintf("[more than %d lines differ]\n", maxDiffLines)
	}
	return unified(edits)
}

func lines(text []byte) []string {
	s := strings.SplitAfter(string(text), "\n")
	if s[len(s)-1] == "" {
		s = s[:len(s)-1]
	}
	return s
}

// An edit is a line that stays (' '), goes ('-') or comes ('+').
type edit struct {
	op   byte
	line string
}

// shortestEdit turns a into b with as few changed lines as there can be, by
// Myers' algorithm; nil when it takes more than maxDiffLines of them.
func shortestEdit(a, b []string) []edit {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	x, y := a[head:len(a)-tail], b[head:len(b)-tail]
	middle, ok := myers(x, y)
	if !ok {
		return nil
	}
	var out []edit
	for _, l := range a[:head] {
		out = append(out, edit{' ', l})
	}
	out = append(out, middle...)
	for _, l := range a[len(a)-tail:] {
		out = append(out, edit{' ', l})
	}
	return out
}

func myers(a, b []string) ([]edit, bool) {
	const most = maxDiffLines
	// reached[k+most] is how far into a one comes on diagonal k.
	reached := make([]int, 2*most+2)
	var trace [][]int
	for d := 0; d <= most; d++ {
		trace = append(trace, append([]int(nil), reached...))
		for k := -d; k <= d; k += 2 {
			var i int
			if k == -d || k != d && reached[k-1+most] < reached[k+1+most] {
				i = reached[k+1+most]
			} else {
				i = reached[k-1+most] + 1
			}
			j := i - k
			for i < len(a) && j >= 0 && j < len(b) && a[i] == b[j] {
				i, j = i+1, j+1
			}
			reached[k+most] = i
			if i >= len(a) && j >= len(b) {
				return back(a, b, trace, d), true
			}
		}
	}
	return nil, false
}

// back follows the way to the end back to the beginning.
func back(a, b []string, trace [][]int, d int) []edit {
	const most = maxDiffLines
	var out []edit
	i, j := len(a), len(b)
	for ; d > 0; d-- {
		v := trace[d]
		k := i - j
		prev := k - 1
		if k == -d || k != d && v[k-1+most] < v[k+1+most] {
			prev = k + 1
		}
		pi := v[prev+most]
		pj := pi - prev
		for i > pi && j > pj {
			i, j = i-1, j-1
			out = append(out, edit{' ', a[i]})
		}
		if prev == k+1 {
			j--
			out = append(out, edit{'+', b[j]})
		} else {
			i--
			out = append(out, edit{'-', a[i]})
		}
	}
	for i > 0 && j > 0 {
		i, j = i-1, j-1
		out = append(out, edit{' ', a[i]})
	}
	for l, r := 0, len(out)-1; l < r; l, r = l+1, r-1 {
		out[l], out[r] = out[r], out[l]
	}
	return out
}

// unified writes the changed lines and those around them.
func unified(edits []edit) string {
	near := make([]bool, len(edits))
	for i, e := range edits {
		if e.op != ' ' {
			for j := max(0, i-diffContext); j <= min(len(edits)-1, i+diffContext); j++ {
				near[j] = true
			}
		}
	}
	var out strings.Builder
	written, oldLine, newLine := 0, 1, 1
	for i, e := range edits {
		if near[i] {
			if written >= maxDiffLines {
				out.WriteString("[and more]\n")
				break
			}
			if i == 0 || !near[i-1] {
				fmt.Fprintf(&out, "@@ -%d +%d @@\n", oldLine, newLine)
				written++
			}
			line := strings.TrimSuffix(e.line, "\n")
			if len(line) > maxDiffLine {
				line = strings.ToValidUTF8(line[:maxDiffLine], "") + "…"
			}
			out.WriteByte(e.op)
			out.WriteString(line)
			out.WriteByte('\n')
			written++
		}
		if e.op != '+' {
			oldLine++
		}
		if e.op != '-' {
			newLine++
		}
	}
	return out.String()
}
