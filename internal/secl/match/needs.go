package match

import (
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MinNeed is the length of the shortest string that Needs returns.
const MinNeed = 2

// maxNeeds is how many alternatives are worth looking for.
const maxNeeds = 64

// A Need is a text that must occur in a string.
type Need struct {
	Text string
	// AnyCase tells that the case of ASCII letters does not count.
	AnyCase bool
	// Begin and End tell that it must stand there.
	Begin, End bool
}

// Needs returns texts of which at least one occurs in every string that m
// matches, none where there are no such texts of MinNeed bytes or more. They
// are exact where m also matches every string in which one of them occurs.
func Needs(m Matcher) (needs []Need, exact bool) {
	switch m := m.(type) {
	case *Pattern:
		at := longest(m.w.parts)
		last := len(m.w.parts) - 1
		n := Need{Text: m.w.parts[at], AnyCase: m.w.fold, Begin: at == 0, End: at == last}
		length := 0
		for _, p := range m.w.parts {
			length += len(p)
		}
		// One text, and nothing but stars about it.
		return usable([]Need{n}), length == len(n.Text)
	case *Glob:
		t := strings.TrimSuffix(m.text, "**")
		if strings.HasPrefix(t, "*") {
			t = "/" + t
		}
		parts := strings.Split(t, "*")
		return usable([]Need{{Text: parts[longest(parts)]}}), false
	case *Regexp:
		var out []Need
		if o := m.plain; o != nil {
			for _, t := range o.list {
				out = append(out, Need{Text: t, Begin: o.begin, End: o.end})
			}
			return usable(out), true
		}
		re, err := syntax.Parse(m.text, syntax.Perl)
		if err != nil {
			return nil, false
		}
		for _, t := range required(re) {
			out = append(out, Need{Text: t, AnyCase: true})
		}
		return usable(out), false
	}
	return nil, false
}

// longest returns the place of the longest part.
func longest(parts []string) int {
	at := 0
	for i, p := range parts {
		if len(p) > len(parts[at]) {
			at = i
		}
	}
	return at
}

// usable returns none of some texts where one is too short.
func usable(list []Need) []Need {
	for _, n := range list {
		if len(n.Text) < MinNeed {
			return nil
		}
	}
	if len(list) > maxNeeds {
		return nil
	}
	return list
}

// Lower returns s with its ASCII letters in lower case.
func Lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lower(c)
	}
	return string(b)
}

func shortest(list []string) int {
	if len(list) == 0 {
		return 0
	}
	n := len(list[0])
	for _, s := range list {
		n = min(n, len(s))
	}
	return n
}

// required returns strings of which one is in every match, nil where there
// are none.
func required(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		if s := plain(re.Rune, re.Flags&syntax.FoldCase != 0); s != "" {
			return []string{s}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		better := func(list []string) {
			if len(list) <= maxNeeds && shortest(list) > shortest(best) {
				best = list
			}
		}
		// What stands side by side is longer when it is taken together.
		var run []string
		for _, s := range re.Sub {
			if whole := all(s, true); whole != nil {
				if run = product(run, whole); run == nil {
					run = whole
				}
				better(run)
				continue
			}
			run = nil
			better(required(s))
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, s := range re.Sub {
			r := required(s)
			if len(r) == 0 || len(all)+len(r) > maxNeeds {
				return nil
			}
			all = append(all, r...)
		}
		return all
	}
	return nil
}

// maxWhole is how many strings an expression may stand for to be taken as
// those.
const maxWhole = 16

// all returns all strings that re matches, nil where they are too many. With
// anyCase they need not say which case ASCII letters have.
func all(re *syntax.Regexp, anyCase bool) []string {
	switch re.Op {
	case syntax.OpLiteral:
		fold := re.Flags&syntax.FoldCase != 0
		if s := string(re.Rune); s != "" && (anyCase || !fold) && plain(re.Rune, fold) == s {
			return []string{s}
		}
	case syntax.OpCapture:
		return all(re.Sub[0], anyCase)
	case syntax.OpConcat:
		var out []string
		for i, s := range re.Sub {
			one := all(s, anyCase)
			if i == 0 {
				out = one
			} else {
				out = product(out, one)
			}
			if out == nil {
				return nil
			}
		}
		return out
	case syntax.OpAlternate:
		var out []string
		for _, s := range re.Sub {
			one := all(s, anyCase)
			if one == nil || len(out)+len(one) > maxWhole {
				return nil
			}
			out = append(out, one...)
		}
		return out
	}
	return nil
}

// occurrence is a search for strings, at the beginning or the end of another
// or anywhere in it.
type occurrence struct {
	list       []string
	begin, end bool
}

func (o *occurrence) match(s string) bool {
	for _, x := range o.list {
		switch {
		case o.begin && o.end:
			if s == x {
				return true
			}
		case o.begin:
			if strings.HasPrefix(s, x) {
				return true
			}
		case o.end:
			if strings.HasSuffix(s, x) {
				return true
			}
		default:
			if strings.Contains(s, x) {
				return true
			}
		}
	}
	return false
}

// plainSearch returns the search for strings that a regular expression is,
// nil where it is more than that.
func plainSearch(text string) *occurrence {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil
	}
	subs := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		subs = re.Sub
	}
	o := &occurrence{}
	// A search may begin and end anywhere, so that what can be nothing at its
	// ends is nothing.
	empty := func(re *syntax.Regexp) bool { return re.Op == syntax.OpStar || re.Op == syntax.OpQuest }
	if o.begin = subs[0].Op == syntax.OpBeginText; o.begin {
		subs = subs[1:]
	} else {
		for len(subs) > 0 && empty(subs[0]) {
			subs = subs[1:]
		}
	}
	if len(subs) == 0 {
		return nil
	}
	if o.end = subs[len(subs)-1].Op == syntax.OpEndText; o.end {
		subs = subs[:len(subs)-1]
	} else {
		for len(subs) > 0 && empty(subs[len(subs)-1]) {
			subs = subs[:len(subs)-1]
		}
	}
	if len(subs) == 0 {
		return nil
	}
	if o.list = all(&syntax.Regexp{Op: syntax.OpConcat, Sub: subs}, false); o.list == nil {
		return nil
	}
	return o
}

// product joins each string of a with each of b, nil where that is too many or
// there are none.
func product(a, b []string) []string {
	if len(a)*len(b) > maxWhole || len(a) == 0 || len(b) == 0 {
		return nil
	}
	out := make([]string, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			out = append(out, x+y)
		}
	}
	return out
}

// plain returns the longest run of runes that stand in a text as they are,
// where fold is set but for the case of ASCII letters. The replacement
// character also matches bytes that are no text, and some ASCII letters are
// the other case of letters that are not ASCII.
func plain(runes []rune, fold bool) string {
	best, start := "", 0
	take := func(end int) {
		if s := string(runes[start:end]); len(s) > len(best) {
			best = s
		}
		start = end + 1
	}
	for i, r := range runes {
		ok := r != utf8.RuneError
		for f := r; fold && ok; {
			if f = unicode.SimpleFold(f); f == r {
				break
			}
			ok = f < utf8.RuneSelf && r < utf8.RuneSelf
		}
		if !ok {
			take(i)
		}
	}
	take(len(runes))
	return best
}

// Text returns the text a matcher was made of, with its kind, so that equal
// texts mean equal matchers.
func Text(m Matcher) string {
	switch m := m.(type) {
	case *Pattern:
		text := strings.Join(m.w.parts, "*")
		if m.w.fold {
			return "fold:" + text
		}
		return "pattern:" + text
	case *Glob:
		return "glob:" + m.text
	case *Regexp:
		return "regexp:" + m.text
	}
	return ""
}
