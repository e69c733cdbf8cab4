package match_test

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/secl/match"
)

func TestNeeds(t *testing.T) {
	re := func(text string) match.Matcher {
		m, err := match.NewRegexp(text, false)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, tc := range []struct {
		m    match.Matcher
		want string
	}{
		{re("^curl"), "^curl!"},
		{re(".*(bash|curl).*"), "bash! curl!"},
		{re(`\.(sh|key)$`), ".key$! .sh$!"},
		{re("x(foobar)+[0-9]"), "foobar"},
		{re("(?i)WGET"), "WGET"},
		{re("(?i)disk"), "DI"}, // s and k are also letters beyond ASCII
		{re("(foo)*"), ""},
		{re("foo|b"), ""},
		{re("[a-z]+"), ""},
		{pattern(t, "*/dev/TCP/*"), "/dev/TCP/!"},
		{pattern(t, "ab*"), "^ab!"},
		{pattern(t, "*ab"), "ab$!"},
		{pattern(t, "*abc*d"), "abc"},
		{pattern(t, "a*b"), ""},
		{glob(t, "/*/*/tmp/.*/**"), "/tmp/."},
		{glob(t, "/etc/**"), "/etc/"},
		{glob(t, "**"), ""},
	} {
		list, exact := match.Needs(tc.m)
		var got []string
		for _, n := range list {
			s := n.Text
			if n.Begin {
				s = "^" + s
			}
			if n.End {
				s += "$"
			}
			if exact {
				s += "!"
			}
			got = append(got, s)
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s needs %q, want %q", match.Text(tc.m), s, tc.want)
		}
	}
}

func pattern(t *testing.T, text string) match.Matcher {
	m, err := match.NewPattern(text, false)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func glob(t *testing.T, text string) match.Matcher {
	m, err := match.NewGlob(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// expression makes a random regular expression over few letters.
func expression(r *rand.Rand, depth int) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	if depth == 0 {
		return pick("a", "b", "ab", "k", "K", "S", "[ab]", ".", "^", "$", "ba", `\.`, "(?i:k)", "(?i:ab)", "é", "")
	}
	a, b := expression(r, depth-1), expression(r, depth-1)
	switch r.IntN(7) {
	case 0:
		return "(" + a + "|" + b + ")"
	case 1:
		return "(" + a + ")" + pick("*", "+", "?", "{2}", "{0,2}")
	case 2:
		return pick(".*", "^", "") + a + pick(".*", "$", "")
	default:
		return a + b
	}
}

// meets tells whether a string has what is needed.
func meets(s string, n match.Need) bool {
	t := n.Text
	if n.AnyCase {
		s, t = match.Lower(s), match.Lower(t)
	}
	switch {
	case n.Begin && n.End:
		return s == t
	case n.Begin:
		return strings.HasPrefix(s, t)
	case n.End:
		return strings.HasSuffix(s, t)
	}
	return strings.Contains(s, t)
}

// sameRegexp holds that an expression matches what the standard library says,
// and that one of the strings it needs is in every match.
func sameRegexp(t *testing.T, seed uint64) (plain, needs bool) {
	r := rand.New(rand.NewPCG(seed, 1))
	text := expression(r, 1+r.IntN(4))
	fold := r.IntN(4) == 0
	m, err := match.NewRegexp(text, fold)
	if err != nil {
		return false, false
	}
	if fold {
		text = "(?i)" + text
	}
	want := regexp.MustCompile(text)
	list, exact := match.Needs(m)
	for range 30 {
		var b strings.Builder
		for range r.IntN(8) {
			b.WriteString([]string{"a", "b", "k", "K", "\u212a", "s", "\u017f", "A", "\n", ".", "\xff", "é", "ab"}[r.IntN(13)])
		}
		s := b.String()
		got := m.Match(s)
		if got != want.MatchString(s) {
			t.Fatalf("seed %d: %s on %q: got %v", seed, text, s, got)
		}
		if met := slices.ContainsFunc(list, func(n match.Need) bool { return meets(s, n) }); len(list) > 0 && (got && !met || met && !got && exact) {
			t.Fatalf("seed %d: %s on %q: %v, with one of %+v (exact: %v): %v", seed, text, s, got, list, exact, met)
		}
	}
	return match.IsPlain(m), len(list) > 0
}

func TestRegexpRandom(t *testing.T) {
	plain, needs := 0, 0
	for seed := range uint64(4000) {
		p, n := sameRegexp(t, seed)
		if p {
			plain++
		}
		if n {
			needs++
		}
	}
	if plain < 100 || needs < 500 {
		t.Errorf("only %d plain, %d with needs", plain, needs)
	}
}

func FuzzRegexp(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { sameRegexp(t, seed) })
}
