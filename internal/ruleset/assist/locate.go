package assist

import (
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/source"
	"github.com/clewsec/clew/internal/secl/parse"
)

// site is a text in the rule language and where it stands. In a document that
// is nothing but one, node is nil.
type site struct {
	node  *source.Node
	text  string
	shape ruleset.Shape
	// rule is the mapping of the rule or macro that it is part of.
	rule *source.Node
}

// offset is where a byte of the text stands in the document.
func (s *site) offset(i int) int {
	if s.node == nil {
		return min(max(i, 0), len(s.text))
	}
	return s.node.Offset(i)
}

// index is which byte of the text stands at an offset of the document.
func (s *site) index(off int) int {
	if s.node == nil {
		return min(max(off, 0), len(s.text))
	}
	return s.node.Index(off)
}

// end is where in the document the byte before i ends: not where the next one
// stands, when a line break is between.
func (s *site) end(i int) int {
	if s.node == nil {
		return s.offset(i)
	}
	return s.node.EndOffset(i)
}

// rangeOf is the range of a part of the text.
func (d *document) rangeOf(s *site, start, end int) Range {
	if start >= end {
		return d.text.Range(s.offset(start), s.offset(start))
	}
	return d.text.Range(s.offset(start), s.end(end))
}

// sites calls f for each text in the rule language.
func (d *document) sites(f func(*site)) {
	if d.kind == SECL {
		f(&site{text: d.text.src, shape: ruleset.ShapeExpression})
		return
	}
	sites(d.tree, d.object(), nil, f)
}

func sites(n *source.Node, object string, rule *source.Node, f func(*site)) {
	if n == nil || n.Kind != source.Mapping {
		return
	}
	if object == "rule" || object == "watch entry" || object == "macro" || object == ruleset.RuleFile {
		rule = n
	}
	keys := ruleset.Keys(object)
	for _, e := range n.Entries {
		if e.Value == nil {
			continue
		}
		k := find(keys, e.Key.Value())
		if k == nil {
			continue
		}
		values := []*source.Node{e.Value}
		if e.Value.Kind == source.Sequence {
			values = e.Value.Items
		}
		for _, v := range values {
			switch {
			case k.Object != "":
				sites(v, k.Object, rule, f)
			case isExpression(k.Shape) && v.Kind == source.Scalar:
				f(&site{node: v, text: v.Value(), shape: singular(k.Shape), rule: rule})
			}
		}
	}
}

func find(keys []ruleset.Key, name string) *ruleset.Key {
	for i := range keys {
		if keys[i].Name == name {
			return &keys[i]
		}
	}
	return nil
}

func isExpression(s ruleset.Shape) bool {
	switch singular(s) {
	case ruleset.ShapeExpression, ruleset.ShapeValue, ruleset.ShapeFilters:
		return true
	}
	return false
}

// singular is the shape of a member of a list.
func singular(s ruleset.Shape) ruleset.Shape {
	switch s {
	case ruleset.ShapeTexts:
		return ruleset.ShapeText
	case ruleset.ShapeExpressions:
		return ruleset.ShapeExpression
	case ruleset.ShapeValues:
		return ruleset.ShapeValue
	case ruleset.ShapeObjects:
		return ruleset.ShapeObject
	}
	return s
}

func plural(s ruleset.Shape) bool { return s == ruleset.ShapeFilters || singular(s) != s }

// place is what stands at an offset of a document.
type place struct {
	off int
	// col is the column of the cursor's line where its text begins; on a line
	// without any, that of the cursor.
	col   int
	blank bool
	line  int

	// object is the mapping that the place is in; atKey tells that a key
	// belongs there, of which word is what is written so far. present are the
	// keys that the mapping has already.
	object  string
	atKey   bool
	word    *source.Node
	present *source.Node

	// key is the key whose value the place is in, and keyNode where it is
	// written, value that value: nil where there is none yet. item tells that
	// it is a member of a list.
	key     *ruleset.Key
	keyNode *source.Node
	value   *source.Node
	inValue bool
	item    bool

	// site is set where the value is in the rule language.
	site *site
	rule *source.Node
}

// at finds what stands at an offset.
func (d *document) at(off int) *place {
	p := &place{off: off, line: d.text.lineOf(off)}
	if d.kind == SECL {
		p.site = &site{text: d.text.src, shape: ruleset.ShapeExpression}
		return p
	}
	start, end := d.text.line(p.line)
	line := d.text.src[start:end]
	p.blank = strings.TrimSpace(line) == ""
	p.col = len(line) - len(strings.TrimLeft(line, " "))
	if p.blank {
		p.col = min(off, end) - start
	}
	p.mapping(d, d.tree, d.object())
	if p.inValue && p.key != nil && isExpression(p.key.Shape) && (p.value == nil || p.value.Kind == source.Scalar) {
		p.site = &site{node: p.value, text: p.value.Value(), shape: singular(p.key.Shape), rule: p.rule}
	}
	return p
}

// mapping looks for the place in the value of a key that takes a mapping.
func (p *place) mapping(d *document, n *source.Node, object string) {
	p.object = object
	if object == "rule" || object == "watch entry" || object == "macro" || object == ruleset.RuleFile {
		p.rule = n
	}
	if n == nil {
		p.atKey = true
		return
	}
	switch n.Kind {
	case source.Scalar:
		// A key that is being typed.
		if n.Style == source.Plain && (p.off >= n.Start && p.off <= n.End || p.blank) {
			p.atKey, p.word = true, n
			if p.blank {
				p.word = nil
			}
		}
		return
	case source.Sequence:
		return
	}
	p.present = n
	var e *source.Entry
	for i := range n.Entries {
		if n.Entries[i].Key.Start > p.off {
			break
		}
		e = &n.Entries[i]
	}
	if e == nil {
		p.atKey = p.blank && !n.Flow && p.col == n.Indent || n.Flow && p.off > n.Start
		return
	}
	if p.off <= e.Key.End {
		p.atKey, p.word = true, e.Key
		return
	}
	sameLine := d.text.lineOf(e.Key.Start) == p.line
	within := e.Value != nil && p.off >= e.Value.Start && p.off <= e.Value.Reach && !(p.blank && p.outside(e.Value))
	switch {
	case n.Flow:
		if e.Colon < 0 || !within && strings.IndexByte(d.text.src[e.Colon:p.off], ',') >= 0 {
			p.atKey = true
			return
		}
	case e.Colon >= 0 && p.off <= e.Colon:
		return
	case !within && p.blank && p.col == n.Indent:
		p.atKey = true
		return
	case !within && (!p.blank || p.col < n.Indent) && !sameLine:
		return
	case e.Colon < 0:
		return
	}
	k := find(ruleset.Keys(object), e.Key.Value())
	if k == nil {
		return
	}
	p.atKey = false
	p.enter(d, k, e, sameLine)
}

// outside tells whether a blank line at the end of a value is less far in than
// the value, so that it belongs to what is around.
func (p *place) outside(v *source.Node) bool {
	switch {
	case v.Kind == source.Scalar && (v.Style == source.Literal || v.Style == source.Folded):
		return p.col < v.Indent && p.off > v.End
	case v.Flow || v.Kind == source.Scalar:
		return p.off > v.End
	}
	return p.col < v.Indent
}

// enter goes into the value of a key.
func (p *place) enter(d *document, k *ruleset.Key, e *source.Entry, sameLine bool) {
	p.key, p.keyNode = k, e.Key
	v := e.Value
	if !plural(k.Shape) {
		p.into(d, k, v, sameLine)
		return
	}
	if v == nil || v.Kind != source.Sequence {
		// The list is not begun; what is written may be its member to be.
		p.value, p.inValue, p.item = v, v == nil || v.Kind == source.Scalar, false
		return
	}
	p.item = true
	var item *source.Node
	for _, it := range v.Items {
		if it.Start > p.off {
			break
		}
		item = it
	}
	switch {
	case item == nil:
		p.inValue = v.Flow && p.off > v.Start
	case p.off <= item.Reach && !(p.blank && p.outside(item)):
		p.into(d, k, item, true)
	case v.Flow:
		p.inValue = p.off <= v.End
	case p.blank && p.col > v.Indent:
		p.into(d, k, item, false)
	}
}

// into goes into a value, or a member of a list.
func (p *place) into(d *document, k *ruleset.Key, v *source.Node, sameLine bool) {
	if k.Object != "" {
		p.key = nil
		if v != nil && v.Kind == source.Scalar && v.Start == v.End {
			v = nil // an empty member
		}
		if v == nil && sameLine && !p.item {
			p.object, p.inValue = k.Object, false
			return
		}
		p.mapping(d, v, k.Object)
		return
	}
	if v == nil || v.Kind == source.Scalar {
		p.value, p.inValue = v, true
	}
}

// token finds the word of a text that a place is in, or directly behind.
func (s *site) token(i int) (parse.Token, bool) {
	var before parse.Token
	found := false
	for _, t := range parse.Tokens(s.text) {
		if t.At.Start <= i && i < t.At.End {
			return t, true
		}
		if t.At.End == i && t.Kind != parse.Punct && t.Kind != parse.Comment {
			before, found = t, true
		}
	}
	return before, found
}
