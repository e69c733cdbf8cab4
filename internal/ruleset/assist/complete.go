package assist

import (
	"fmt"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/source"
)

// ItemKind says what a completion is, in the numbers of the language server
// protocol.
type ItemKind int

// The kinds of completions.
const (
	FieldItem    ItemKind = 5
	VariableItem ItemKind = 6
	ModuleItem   ItemKind = 9
	KeyItem      ItemKind = 10
	ValueItem    ItemKind = 12
	EnumItem     ItemKind = 20
	ConstantItem ItemKind = 21
	MacroItem    ItemKind = 3
	OperatorItem ItemKind = 24
)

// Item is one thing that could stand at a place.
type Item struct {
	Label  string
	Kind   ItemKind
	Detail string
	// Doc is Markdown.
	Doc string
	// Edit is what choosing it does.
	Edit Edit
	// Filter is what is typed to find it, where that is not the label.
	Filter string
	// sort orders items: the smaller the more likely.
	sort string
}

// Completions are what could stand at a place, most likely first.
type Completions struct {
	Items []Item
	// Incomplete tells that there are more, which further letters bring up.
	Incomplete bool
}

// maxItems bounds how many completions are given at once.
const maxItems = 400

// Complete returns what could stand at a position.
func (w *Workspace) Complete(name string, at Position) Completions {
	d := w.docs[name]
	if d == nil {
		return Completions{}
	}
	c := &completer{w: w, d: d, place: d.at(d.text.Offset(at))}
	switch {
	case c.site != nil:
		c.expression()
	case c.atKey:
		c.keys()
	case c.inValue && c.key != nil:
		c.values()
	}
	slices.SortStableFunc(c.items, func(a, b Item) int {
		if a.sort != b.sort {
			return strings.Compare(a.sort, b.sort)
		}
		return strings.Compare(a.Label, b.Label)
	})
	out := Completions{Items: c.items}
	if len(out.Items) > maxItems {
		out.Items, out.Incomplete = out.Items[:maxItems], true
	}
	return out
}

type completer struct {
	w *Workspace
	d *document
	*place
	items []Item
}

func (c *completer) add(it Item, sort string) {
	it.sort = sort
	c.items = append(c.items, it)
}

// hits tells whether what is typed could become a name. An editor filters by
// its own lights; this keeps lists short.
func hits(name, typed string) bool {
	return len(name) >= len(typed) && strings.EqualFold(name[:len(typed)], typed)
}

// keys offers the keys of a mapping that it does not have yet.
func (c *completer) keys() {
	r := c.d.text.Range(c.off, c.off)
	typed, colon := "", false
	if c.word != nil {
		// A word on several lines is none; what is chosen stands at the cursor.
		if whole := c.d.text.Range(c.word.Start, c.word.End); whole.Start.Line == c.line && whole.End.Line == c.line {
			r = whole
		}
		typed = c.d.text.src[c.word.Start:min(max(c.off, c.word.Start), c.word.End)]
	}
	have := map[string]bool{}
	if c.present != nil {
		for _, e := range c.present.Entries {
			if e.Key == c.word {
				colon = e.Colon >= 0
				continue
			}
			have[e.Key.Value()] = true
		}
	}
	for i, k := range ruleset.Keys(c.object) {
		if have[k.Name] || !hits(k.Name, typed) {
			continue
		}
		text := k.Name
		switch {
		case colon:
		case c.present != nil && c.present.Flow, k.Object == "" && !plural(k.Shape) && k.Shape != ruleset.ShapePairs:
			text += ": "
		default:
			text += ":"
		}
		tier := "1"
		if k.Required {
			tier = "0"
		}
		c.add(Item{Label: k.Name, Kind: KeyItem, Detail: describeShape(&k), Doc: k.Doc, Edit: Edit{r, text}}, fmt.Sprintf("%s%03d", tier, i))
	}
}

// describeShape says in words what a key takes.
func describeShape(k *ruleset.Key) string {
	var s string
	switch singular(k.Shape) {
	case ruleset.ShapeText:
		s = "text"
	case ruleset.ShapeExpression:
		s = "condition"
	case ruleset.ShapeValue:
		s = "field or expression"
	case ruleset.ShapeFilters:
		s = "condition on the host"
	case ruleset.ShapeYes:
		s = "true or false"
	case ruleset.ShapeInteger:
		s = "integer"
	case ruleset.ShapeDuration:
		s = "duration"
	case ruleset.ShapeObject:
		s = k.Object
	case ruleset.ShapePairs:
		s = "names with values"
	default:
		s = "value"
	}
	if plural(k.Shape) {
		s = "list: " + s
	}
	return s
}

// values offers the values of a key.
func (c *completer) values() {
	var items []Item
	add := func(kind ItemKind, label, detail, doc string) {
		items = append(items, Item{Label: label, Kind: kind, Detail: detail, Doc: doc})
	}
	terms := func(ts []Term) {
		for _, t := range ts {
			items = append(items, Item{Label: t.ID, Kind: EnumItem, Detail: t.Name, Filter: t.ID + " " + t.Name})
		}
	}
	switch {
	case c.key.Closed != nil:
		for _, v := range c.key.Closed {
			add(EnumItem, v, c.key.Name, "")
		}
	case c.key.Name == "techniques":
		terms(c.w.cfg.Techniques)
	case c.key.Name == "tactics":
		terms(c.w.cfg.Tactics)
	case c.object == "kill" && c.key.Name == "signal":
		for _, n := range c.w.names.constants {
			if signals.fits(n) {
				add(ConstantItem, n, "", constantDoc(n))
			}
		}
	case c.key.Shape == ruleset.ShapeYes:
		add(ValueItem, "true", "", "")
		add(ValueItem, "false", "", "")
	case c.key.Shape == ruleset.ShapeDuration:
		for _, v := range []string{"10s", "1m", "5m", "1h", "24h"} {
			add(ValueItem, v, "duration", "")
		}
	}
	r, before, after := c.d.text.Range(c.off, c.off), "", ""
	if v := c.value; v != nil && c.off >= v.Start && c.off <= v.End && c.d.text.lineOf(v.Start) == c.d.text.lineOf(v.End) {
		r = c.d.text.Range(v.Start, v.End)
	}
	switch prev := c.d.text.src[:c.off]; {
	case plural(c.key.Shape) && !c.item && c.blank:
		before = "- "
	case plural(c.key.Shape) && !c.item:
		before, after = "[", "]"
		fallthrough
	default:
		if strings.HasSuffix(prev, ":") {
			before = " " + before
		}
	}
	for i, it := range items {
		it.Edit = Edit{r, before + it.Label + after}
		c.add(it, fmt.Sprintf("%03d", i))
	}
}

// encode writes a text so that it can stand in a scalar of a style.
func encode(n *source.Node, s string) string {
	switch {
	case n == nil:
		return s
	case n.Style == source.Double:
		return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
	case n.Style == source.Single:
		return strings.ReplaceAll(s, "'", "''")
	}
	return s
}
