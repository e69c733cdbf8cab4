package match

import (
	"regexp"
	"strings"
	"testing"
)

func TestGlob(t *testing.T) {
	for _, tc := range []struct {
		glob, value string
		want        bool
	}{
		{"/etc/*", "/etc/passwd", true},
		{"/etc/*", "/etc/", true},
		{"/etc/*", "/etc", false},
		{"/etc/*", "/etc/ssh/x", false},
		{"/etc/**", "/etc/a", true},
		{"/etc/**", "/etc/ssh/x/y", true},
		{"/etc/**", "/etc", false},
		{"/etc/**", "/etc/", false},
		{"/**", "/a", true},
		{"**", "/a", true},
		{"/**", "/etc/a/b", true},
		{"**", "/etc/a/b", true},
		{"/**", "/", false},
		{"/**", "", false},
		{"/*", "/", true},
		{"/*", "/a", true},
		{"/*", "/a/b", false},
		{"*/a", "/x/a", true},
		{"*/a", "/a", false},
		{"*/a", "/x/y/a", false},
		{"*/etc/*", "/a/etc/b", true},
		{"*/etc/*", "/a/b/etc/b", false},
		{"/a*/b", "/ax/b", true},
		{"/a*/b", "/a/b", true},
		{"/proc/*/mem*", "/proc/12/memx", true},
		{"*.txt", "/a.txt", false},
		{"*.txt", "/a/b.txt", false},
		{"/a", "/a/", false},
		{"*", "a", false},
		{"/a/*.so", "/a/x.so.so", true},
		{"/a*c/b", "/abcc/b", true},
		{"/a/*b*c", "/a/xbbcc", true},
		{"/a/*b*c", "/a/xbcc", true},
		{"/a/?", "/a/b", false},
		{"/a/[x]", "/a/[x]", true},
		{"/a/*b*b", "/a/b", false},
	} {
		g, err := NewGlob(tc.glob)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Match(tc.value); got != tc.want {
			t.Errorf("glob %q on %q: got %v, want %v", tc.glob, tc.value, got, tc.want)
		}
	}
	for _, bad := range []string{"/**/b", "/a/b**", "/a/**b", "**/x"} {
		if _, err := NewGlob(bad); err == nil {
			t.Errorf("glob %q is accepted", bad)
		}
	}
}

func TestGlobDir(t *testing.T) {
	for glob, want := range map[string]string{
		"/etc/*": "/etc", "/etc/**": "/etc", "/etc/sh*w": "/etc", "/etc/a/*/b": "/etc/a", "/*/x": "", "**": "", "*/x": "",
		"/etc/shadow": "/etc", "/*": "", "*.txt": "",
	} {
		g, err := NewGlob(glob)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Dir(); got != want {
			t.Errorf("%s: got %q, want %q", glob, got, want)
		}
	}
}

func TestGlobBase(t *testing.T) {
	for glob, want := range map[string]string{
		"/*/etc/shadow": "shadow", "/etc/*": "", "/etc/**": "", "*.txt": "", "/etc/sh*w": "",
	} {
		g, err := NewGlob(glob)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := g.Base(); got != want && ok || ok != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", glob, got, ok, want)
		}
	}
}

func TestPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern, value string
		want           bool
	}{
		{"a*", "abc", true},
		{"*", "", true},
		{"*-i*", "--i -i", true},
		{"a*b*c", "aXbYc", true},
		{"a?", "ab", false},
		{"[x]", "[x]", true},
		{"[x]", "x", false},
		{"x", "xy", false},
		{"*a", "aa", true},
		{"*ab", "xabab", true},
		{"*.so", "x.so.so", true},
		{"a*b", "aXbXb", true},
		{"a*e", "abcd/e", true},
		{"ab*b", "ab", false},
		{"A*", "abc", false},
	} {
		p, err := NewPattern(tc.pattern, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(tc.value); got != tc.want {
			t.Errorf("pattern %q on %q: got %v, want %v", tc.pattern, tc.value, got, tc.want)
		}
	}
	if _, err := NewPattern("a**", false); err == nil {
		t.Error("pattern a** is accepted")
	}
	p, err := NewPattern("*.ABC.com", true)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Match("x.abc.COM") {
		t.Error("a folding pattern does not fold")
	}
}

func TestRegexp(t *testing.T) {
	for _, tc := range []struct {
		re, value string
		want      bool
	}{
		{"b", "abc", true},
		{"^b", "abc", false},
		{".*(one|two).*", "a two b", true},
		{".*(one|two).*", "a three b", false},
		{".*(one|).*", "x", true},
	} {
		r, err := NewRegexp(tc.re, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Match(tc.value); got != tc.want {
			t.Errorf("regexp %q on %q: got %v, want %v", tc.re, tc.value, got, tc.want)
		}
	}
	if _, err := NewRegexp("(", false); err == nil {
		t.Error("an open group is accepted")
	}
}

// FuzzWildcard compares the matcher with a regular expression of the same
// meaning.
func FuzzWildcard(f *testing.F) {
	for _, s := range [][2]string{{"a*b", "aXbXb"}, {"*ab*", "aab"}, {"", ""}, {"a*a", "a"}, {"*x*y*x", "xyxyx"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, value string) {
		p, err := NewPattern(pattern, false)
		if err != nil {
			return
		}
		parts := strings.Split(pattern, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		re, err := regexp.Compile(`(?s)\A` + strings.Join(parts, `.*`) + `\z`)
		if err != nil || strings.ToValidUTF8(value, "") != value || strings.ToValidUTF8(pattern, "") != pattern {
			return
		}
		if got, want := p.Match(value), re.MatchString(value); got != want {
			t.Errorf("pattern %q on %q: got %v, want %v", pattern, value, got, want)
		}
	})
}

func BenchmarkGlob(b *testing.B) {
	g, err := NewGlob("/*/*/etc/cron.d/*")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		g.Match("/usr/lib/x86_64-linux-gnu/libc.so.6")
	}
}
