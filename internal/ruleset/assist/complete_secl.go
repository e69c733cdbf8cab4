package assist

import (
	"fmt"
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/source"
	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/parse"
)

// expression offers what could stand at a place of a condition.
func (c *completer) expression() {
	i := c.site.index(c.off)
	if n := c.site.node; n != nil && c.off > n.Start {
		switch n.Style {
		case source.Single, source.Double:
			if !n.Open && c.off >= n.End {
				return
			}
		case source.Plain:
			if c.off > n.End {
				// White space at the end is not part of the value yet.
				s := *c.site
				s.text += " "
				c.site, i = &s, len(s.text)
			}
		}
	}
	tokens := parse.Tokens(c.site.text)
	// The word that is being typed, and those before it.
	var before []parse.Token
	start, end := i, i
	for _, t := range tokens {
		if t.At.Start >= i {
			break
		}
		inside := i <= t.At.End
		switch t.Kind {
		case parse.Comment:
			if inside {
				return
			}
			continue
		case parse.String:
			if i < t.At.End {
				c.inString(t, i)
				return
			}
		case parse.Variable, parse.FieldRef:
			if i < t.At.End {
				c.reference(t, i)
				return
			}
		case parse.Bad:
			switch {
			case !inside:
			case strings.ContainsRune(t.Text, '"'):
				c.inString(t, i)
				return
			case strings.HasPrefix(t.Text, "${"), strings.HasPrefix(t.Text, "%{"):
				c.reference(t, i)
				return
			}
			continue
		case parse.Name:
			if inside {
				start, end = t.At.Start, t.At.End
				continue
			}
		case parse.Integer, parse.Duration, parse.Network:
			if inside {
				return
			}
		}
		before = append(before, t)
	}
	typed := c.site.text[start:i]
	put := c.putter(start, end)
	if c.site.shape == ruleset.ShapeFilters {
		c.hostFields(typed, put)
		return
	}
	seg := c.segment(before)
	switch {
	case seg.operator:
		c.operators(&seg, typed, put)
	case seg.left != nil || seg.leftType != check.Invalid:
		c.rightSide(&seg, typed, put)
	default:
		c.leftSide(typed, put)
	}
}

// putter makes edits that replace a part of the text. Where that is on several
// lines of the file, what is inserted stands at the cursor.
func (c *completer) putter(start, end int) func(string) Edit {
	r := c.d.rangeOf(c.site, start, end)
	if c.site.node == nil && c.d.kind != SECL || r.Start.Line != r.End.Line || start == end {
		r = c.d.text.Range(c.off, c.off)
	}
	lead := ""
	if c.d.kind != SECL && c.site.node == nil && strings.HasSuffix(c.d.text.src[:c.off], ":") {
		lead = " "
	}
	return func(s string) Edit { return Edit{r, lead + encode(c.site.node, s)} }
}

// segment is the comparison that a place is in, as far as it is written.
type segment struct {
	// left is the field that is compared; nil where it is none, and leftType
	// then its type where that is known.
	left     *check.Field
	leftType check.Type
	leftList bool
	// op is the comparison, empty where there is none yet; in that of a list
	// is told by inList.
	op     string
	inList bool
	// operator tells that an operator is to come next, not a value.
	operator bool
}

// word tells whether a token is a word of the language.
func word(t parse.Token, words ...string) bool {
	if t.Kind != parse.Name {
		return false
	}
	for _, w := range words {
		if t.Text == w {
			return true
		}
	}
	return false
}

func punct(t parse.Token, chars string) bool {
	return t.Kind == parse.Punct && strings.Contains(chars, t.Text)
}

// segment reads the words since the last && or ||.
func (c *completer) segment(tokens []parse.Token) segment {
	from := 0
	for i, t := range tokens {
		twice := i > 0 && punct(t, "&|") && punct(tokens[i-1], t.Text) && tokens[i-1].At.End == t.At.Start
		if twice || word(t, "and", "or") {
			from = i + 1
		}
	}
	seg := segment{}
	tokens = tokens[from:]
	brackets := 0
	for i, t := range tokens {
		switch {
		case punct(t, "["):
			brackets++
		case punct(t, "]"):
			brackets--
		case punct(t, "=<>"), punct(t, "!~") && (i > 0 && tokens[i-1].Kind != parse.Punct || i > 0 && punct(tokens[i-1], "=!")):
			if i > 0 && tokens[i-1].Kind == parse.Punct && seg.op != "" {
				seg.op += t.Text
			} else {
				seg.op = t.Text
			}
		case word(t, "in", "allin"):
			seg.op = t.Text
		case seg.left == nil && seg.leftType == check.Invalid:
			c.operand(&seg, t)
		}
	}
	seg.inList = brackets > 0
	if n := len(tokens); n > 0 {
		last := tokens[n-1]
		seg.operator = !word(last, "in", "allin", "not") && !punct(last, "([,&|^!=<>~+-")
	}
	return seg
}

// operand notes what is compared.
func (c *completer) operand(seg *segment, t parse.Token) {
	switch t.Kind {
	case parse.Name, parse.FieldRef:
		if f, ok := c.fieldOf(t.Text); ok {
			seg.left, seg.leftType, seg.leftList = f, f.Type, f.List
		} else if _, ok := check.Constant(t.Text); ok {
			seg.leftType = check.Int
		} else if t.Text != "not" {
			seg.leftType = check.Bool // a macro
		}
	case parse.Variable:
		if v, ok := c.w.variable(c.d.root, t.Text); ok {
			seg.leftType, seg.leftList = v.Type, v.List
		}
	case parse.String:
		seg.leftType = check.String
	case parse.Integer, parse.Duration:
		seg.leftType = check.Int
	case parse.Network:
		seg.leftType = check.IP
	}
}

// fieldOf finds a field, also one of any change of a file.
func (c *completer) fieldOf(name string) (*check.Field, bool) {
	if rest, ok := strings.CutPrefix(name, anyChange); ok {
		f, found := c.w.names.field("open.file." + rest)
		if !found {
			return nil, false
		}
		g := *f
		g.Name, g.Kind = name, ""
		return &g, true
	}
	return c.w.names.field(name)
}

// operators offers what can follow a value.
func (c *completer) operators(seg *segment, typed string, put func(string) Edit) {
	n := 0
	add := func(op, doc string) {
		if hits(op, typed) || typed == "" {
			c.add(Item{Label: op, Kind: OperatorItem, Doc: doc, Edit: put(op + " ")}, fmt.Sprintf("%02d", n))
			n++
		}
	}
	if seg.inList {
		return
	}
	if seg.op == "" {
		switch seg.leftType {
		case check.Bool:
			add("==", operatorDocs["=="])
		case check.Int:
			for _, op := range []string{"==", "!=", "<", "<=", ">", ">=", "&", "in", "not in"} {
				add(op, operatorDocs[op])
			}
		case check.IP:
			for _, op := range []string{"==", "!=", "in", "not in", "allin"} {
				add(op, operatorDocs[op])
			}
		default:
			for _, op := range []string{"==", "!=", "in", "not in", "=~", "!~"} {
				add(op, operatorDocs[op])
			}
		}
	}
	if seg.op != "" || seg.leftType == check.Bool {
		add("&&", operatorDocs["&&"])
		add("||", operatorDocs["||"])
	}
}

// operatorDocs say what operators mean.
var operatorDocs = map[string]string{
	"==":     "Is equal. Of a list, any element is. Networks are equal where one contains the other.",
	"!=":     "Is not equal. Of a list, no element is.",
	"<":      "Is less. Compared with a duration, a time is younger: `field < 5s`.",
	"<=":     "Is less or equal.",
	">":      "Is greater. Compared with a duration, a time is older.",
	">=":     "Is greater or equal.",
	"&":      "The bits that both have. It binds tighter than a comparison: `open.flags & O_CREAT > 0`.",
	"in":     "Is one of a list. Of a field with many values, any is.",
	"not in": "Is none of a list. Of a field with many values, none is.",
	"allin":  "All of its values are in the list. For addresses and networks.",
	"=~":     "Fits the pattern, in which `*` stands for anything. On paths it is a glob: `*` stays within a segment, `/**` at the end is everything below.",
	"!~":     "Does not fit the pattern.",
	"&&":     "Both hold. `&&` and `||` have one precedence and nest to the right: `a && b || c` is `a && (b || c)`.",
	"||":     "One of them holds. `&&` and `||` have one precedence and nest to the right: `a && b || c` is `a && (b || c)`.",
	"not":    "Does not hold. It binds tighter than a comparison: write `not (x == 1)`.",
}

// kind finds the kind of event that a condition is about already.
func (c *completer) kind() string {
	i := c.site.index(c.off)
	kindOf := func(text string, except int) string {
		for _, t := range parse.Tokens(text) {
			if t.Kind == parse.Name && !(t.At.Start <= except && except <= t.At.End) {
				if f, ok := c.fieldOf(t.Text); ok && f.Kind != "" {
					return f.Kind
				}
			}
		}
		return ""
	}
	if k := kindOf(c.site.text, i); k != "" || c.place.key == nil {
		return k
	}
	// What actions and rates name is of the event that the rule is about.
	switch c.place.key.Name {
	case "expression", "of", "steps":
		if c.object != "set" {
			return ""
		}
	}
	return kindOf(entry(c.place.rule, "expression").Value(), -1)
}

// leftSide offers what a comparison can begin with.
func (c *completer) leftSide(typed string, put func(string) Edit) {
	kind := c.kind()
	c.fields(typed, kind, nil, put, "1")
	if strings.Contains(typed, ".") {
		return
	}
	for _, m := range c.w.macros(c.d.root) {
		if !m.list() && hits(m.name, typed) {
			c.macro(m, put, "2")
		}
	}
	c.variables(typed, "", put, "3")
	if hits("not", typed) {
		c.add(Item{Label: "not", Kind: OperatorItem, Doc: operatorDocs["not"], Edit: put("not (")}, "4")
	}
}

// fields offers the fields that begin with what is typed. Without a dot it
// offers what fields can begin with. fit, where it is set, leaves out fields
// of other types.
func (c *completer) fields(typed, kind string, fit *segment, put func(string) Edit, tier string) {
	n := c.w.names
	if !strings.Contains(typed, ".") && fit == nil {
		for _, top := range append([]string{"fim.write.file"}, n.tops...) {
			if !hits(top, typed) {
				continue
			}
			it := Item{Label: top, Kind: ModuleItem, Edit: put(top + ".")}
			k, isKind := n.kinds[top]
			switch {
			case top == "fim.write.file":
				it.Detail, it.Doc = "any change of a file", "Stands for a file that is opened for writing, renamed, removed, linked, or whose owner or permissions change."
			case isKind && kind != "" && kind != top:
				continue
			case isKind:
				it.Detail, it.Doc = "kind of event", k.Doc
			default:
				it.Detail = "of every event"
			}
			sort := tier + "1"
			if !isKind || kind != "" {
				sort = tier + "0"
			}
			c.add(it, sort)
		}
		return
	}
	// A register or an index stays as it was typed.
	head, base := "", typed
	if i := strings.LastIndexByte(typed, ']'); i >= 0 {
		head = typed[:i+1]
		base = bare(head) + typed[i+1:]
	}
	offer := func(name, label string) {
		f, ok := n.field(name)
		if !ok || kind != "" && f.Kind != "" && f.Kind != kind {
			return
		}
		if fit != nil && (f.Type != fit.leftType || f.Name == fit.left.Name) {
			return
		}
		if head != "" && f.Iter == "" {
			return
		}
		doc, _ := n.describe(name)
		c.add(Item{
			Label: label, Kind: FieldItem, Detail: typeName(f), Doc: doc.Doc, Edit: put(label),
		}, fmt.Sprintf("%s%02d%s", tier, strings.Count(label, "."), label))
	}
	for _, name := range n.fields.Names() {
		if hits(name, base) {
			offer(name, head+name[len(bare(head)):])
		}
	}
	if strings.HasPrefix(typed, "fim.") && fit == nil {
		for _, name := range n.fields.Under("open.file") {
			if label := anyChange + strings.TrimPrefix(name, "open.file."); hits(label, typed) && !strings.HasPrefix(name, "open.file.destination") {
				offer(name, label)
			}
		}
	}
}

// typeName is the type of a field in words.
func typeName(f *check.Field) string {
	s := f.Type.String()
	if f.List {
		s = "list of " + s
	}
	return s
}

func (c *completer) macro(m def, put func(string) Edit, tier string) {
	detail := "macro"
	if m.list() {
		detail = "list"
	}
	c.add(Item{Label: m.name, Kind: MacroItem, Detail: detail, Doc: m.doc.macroDoc(m), Edit: put(m.name)}, tier+m.name)
}

// variables offers ${…}.
func (c *completer) variables(typed, only string, put func(string) Edit, tier string) {
	if typed != "" && only == "" {
		return
	}
	add := func(name, detail string) {
		c.add(Item{Label: "${" + name + "}", Kind: VariableItem, Detail: detail, Edit: put("${" + name + "}")}, tier+name)
	}
	for _, v := range c.w.variables(c.d.root) {
		t := c.w.typeOf(v)
		add(v.name, "variable: "+typeName(&check.Field{Type: t.Type, List: t.List}))
	}
	add("process.pid", "variable: int")
}

// reference offers the names in ${…} and %{…}.
func (c *completer) reference(t parse.Token, i int) {
	s := c.site.text[t.At.Start:t.At.End]
	from := t.At.Start + 2
	if i < from {
		return
	}
	typed := c.site.text[from:i]
	end := t.At.End
	closing := "}"
	if strings.HasSuffix(s, "}") {
		end, closing = end-1, ""
	}
	put := c.putter(from, max(from, end))
	wrap := func(s string) Edit { return put(s + closing) }
	if s[0] == '%' {
		c.fields(typed, c.kind(), nil, put, "1")
		return
	}
	for _, v := range c.w.variables(c.d.root) {
		if hits(v.name, typed) {
			t := c.w.typeOf(v)
			c.add(Item{Label: v.name, Kind: VariableItem, Detail: typeName(&check.Field{Type: t.Type, List: t.List}), Edit: wrap(v.name)}, "0"+v.name)
		}
	}
	for _, name := range []string{"builtins.uuid4", "process.pid"} {
		if hits(name, typed) {
			c.add(Item{Label: name, Kind: VariableItem, Detail: "built in", Edit: wrap(name)}, "1"+name)
		}
	}
}

// inString offers the names in ${…} within a text.
func (c *completer) inString(t parse.Token, i int) {
	s := c.site.text[t.At.Start:i]
	open := strings.LastIndex(s, "${")
	if open < 0 || strings.Contains(s[open:], "}") || t.String != ast.Plain {
		return
	}
	end := t.At.Start + open + 2
	for end < t.At.End && nameByte(c.site.text[end]) {
		end++
	}
	if end < t.At.End && c.site.text[end] == '}' {
		end++
	}
	c.reference(parse.Token{Kind: parse.Variable, At: ast.Span{Start: t.At.Start + open, End: max(end, i)}}, i)
}

func nameByte(c byte) bool {
	return c == '.' || c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
}

// rightSide offers what a field can be compared with.
func (c *completer) rightSide(seg *segment, typed string, put func(string) Edit) {
	list := seg.op == "in" || seg.op == "allin"
	value := func(label, detail string, tier int) {
		if hits(label, typed) {
			c.add(Item{Label: label, Kind: ValueItem, Detail: detail, Edit: put(label)}, fmt.Sprintf("%d%s", tier, label))
		}
	}
	if list && !seg.inList {
		for _, m := range c.w.macros(c.d.root) {
			if m.list() && hits(m.name, typed) {
				c.macro(m, put, "1")
			}
		}
		if seg.leftType == check.IP {
			networks(value)
		}
		if typed == "" {
			c.add(Item{Label: "[ ]", Kind: ValueItem, Detail: "list", Edit: put("[")}, "0")
		}
		c.variables(typed, "", put, "3")
		return
	}
	switch seg.leftType {
	case check.Bool:
		value("true", "", 0)
		value("false", "", 0)
	case check.IP:
		networks(value)
	case check.String:
		if typed == "" {
			c.add(Item{Label: `"…"`, Kind: ValueItem, Detail: "exactly this text", Edit: put(`"`)}, "0")
			c.add(Item{Label: `~"…"`, Kind: ValueItem, Detail: "pattern: * stands for anything", Edit: put(`~"`)}, "1")
			if seg.left == nil || !seg.left.Path() {
				c.add(Item{Label: `r"…"`, Kind: ValueItem, Detail: "regular expression", Edit: put(`r"`)}, "2")
			}
		}
	case check.Int:
		c.integers(seg, typed, put)
	}
	if seg.inList {
		return
	}
	if seg.left != nil && typed != "" {
		c.fields(typed, c.kind(), seg, put, "7")
	}
	c.variables(typed, "", put, "8")
}

// networks are some that rules often name.
func networks(value func(label, detail string, tier int)) {
	value("10.0.0.0/8", "private", 2)
	value("172.16.0.0/12", "private", 2)
	value("192.168.0.0/16", "private", 2)
	value("127.0.0.0/8", "this host", 2)
	value("::1", "this host", 2)
	value("fc00::/7", "private", 2)
	value("169.254.169.254", "metadata of a cloud", 2)
}

// integers offers constants: those that fit the field first, all others once
// something is typed.
func (c *completer) integers(seg *segment, typed string, put func(string) Edit) {
	var fit []string
	if seg.left != nil {
		fit = c.w.names.constantsFor(seg.left.Name)
		if f, ok := c.w.names.describe(seg.left.Name); ok && f.Time {
			for _, v := range []string{"5s", "10m", "1h"} {
				if hits(v, typed) {
					c.add(Item{Label: v, Kind: ValueItem, Detail: "age", Edit: put(v)}, "1"+v)
				}
			}
		}
	}
	first := make(map[string]bool, len(fit))
	for i, n := range fit {
		first[n] = true
		if hits(n, typed) {
			c.add(Item{Label: n, Kind: ConstantItem, Detail: constantDoc(n), Edit: put(n)}, fmt.Sprintf("0%03d", i))
		}
	}
	if typed == "" {
		return
	}
	for _, n := range c.w.names.constants {
		if !first[n] && hits(n, typed) {
			c.add(Item{Label: n, Kind: ConstantItem, Detail: constantDoc(n), Edit: put(n)}, "6"+n)
		}
	}
}

// hostFields offers what filters can ask about a host.
func (c *completer) hostFields(typed string, put func(string) Edit) {
	for _, f := range c.w.names.host {
		if hits(f.Name, typed) {
			c.add(Item{Label: f.Name, Kind: FieldItem, Detail: typeName(&f), Edit: put(f.Name)}, f.Name)
		}
	}
}
