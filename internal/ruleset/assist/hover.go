package assist

import (
	"fmt"
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/source"
	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/parse"
)

// Hover is what there is to say about what stands at a place, in Markdown.
type Hover struct {
	Range Range
	Text  string
}

// Hover explains what stands at a position; false where there is nothing to
// say.
func (w *Workspace) Hover(name string, at Position) (Hover, bool) {
	d := w.docs[name]
	if d == nil {
		return Hover{}, false
	}
	p := d.at(d.text.Offset(at))
	if p.site != nil {
		t, ok := p.site.token(p.site.index(p.off))
		if !ok {
			return Hover{}, false
		}
		text := w.explain(d, p, t)
		return Hover{Range: d.rangeOf(p.site, t.At.Start, t.At.End), Text: text}, text != ""
	}
	if p.atKey && p.word != nil {
		return w.hoverKey(d, p)
	}
	if p.inValue && p.value != nil && p.off <= p.value.End {
		v := p.value.Value()
		for _, list := range [...][]Term{w.cfg.Tactics, w.cfg.Techniques} {
			for _, t := range list {
				if t.ID == v {
					return Hover{Range: d.text.Range(p.value.Start, p.value.End), Text: fmt.Sprintf("**%s** %s", t.ID, t.Name)}, true
				}
			}
		}
		if p.object == "kill" && check.IsConstant(v) {
			return Hover{Range: d.text.Range(p.value.Start, p.value.End), Text: "**" + v + "** " + constantDoc(v)}, true
		}
		if p.key != nil && p.key.Doc != "" && p.value.Style == source.Plain {
			return Hover{Range: d.text.Range(p.value.Start, p.value.End), Text: p.key.Doc}, true
		}
	}
	return Hover{}, false
}

func (w *Workspace) hoverKey(d *document, p *place) (Hover, bool) {
	k := find(ruleset.Keys(p.object), p.word.Value())
	if k == nil {
		return Hover{}, false
	}
	text := fmt.Sprintf("**%s** (%s)\n\n%s", k.Name, describeShape(k), k.Doc)
	if k.Closed != nil {
		text += "\n\nOne of: `" + strings.Join(k.Closed, "`, `") + "`"
	}
	return Hover{Range: d.text.Range(p.word.Start, p.word.End), Text: text}, true
}

// explain says what a word of a condition means.
func (w *Workspace) explain(d *document, p *place, t parse.Token) string {
	switch t.Kind {
	case parse.Variable:
		v, ok := w.variable(d.root, t.Text)
		if !ok {
			return ""
		}
		return fmt.Sprintf("**${%s}** %s\n\nA variable that some rule sets.", t.Text, typeName(&check.Field{Type: v.Type, List: v.List}))
	case parse.FieldRef:
		return w.explainField(t.Text)
	case parse.Name:
	case parse.Punct:
		return explainOperator(p.site.text, t)
	default:
		return ""
	}
	if doc, ok := operatorDocs[t.Text]; ok {
		return "**" + t.Text + "** " + doc
	}
	switch t.Text {
	case "and":
		return "**and** " + operatorDocs["&&"]
	case "or":
		return "**or** " + operatorDocs["||"]
	}
	for _, f := range w.names.host {
		if p.key != nil && p.key.Name == "filters" && f.Name == t.Text {
			return fmt.Sprintf("**%s** %s\n\nOf the host that the rule is loaded on.", f.Name, typeName(&f))
		}
	}
	if check.IsConstant(t.Text) {
		if _, number := check.Constant(t.Text); number {
			return "**" + t.Text + "** " + constantDoc(t.Text)
		}
		return ""
	}
	if m, ok := w.macro(d.root, t.Text); ok {
		return m.doc.macroDoc(m)
	}
	return w.explainField(t.Text)
}

// explainOperator finds the operator that a mark is part of.
func explainOperator(text string, t parse.Token) string {
	for _, at := range [...]int{t.At.Start, t.At.Start - 1} {
		if at >= 0 && at+2 <= len(text) {
			if doc, ok := operatorDocs[text[at:at+2]]; ok {
				return "**" + text[at:at+2] + "** " + doc
			}
		}
	}
	if doc, ok := operatorDocs[t.Text]; ok {
		return "**" + t.Text + "** " + doc
	}
	return ""
}

func (w *Workspace) explainField(name string) string {
	n := w.names
	lookup := name
	if rest, ok := strings.CutPrefix(name, anyChange); ok {
		lookup = "open.file." + rest
	}
	f, ok := n.field(lookup)
	if !ok {
		if k, isKind := n.kinds[name]; isKind {
			return fmt.Sprintf("**%s** kind of event\n\n%s", name, k.Doc)
		}
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** %s\n", name, typeName(f))
	about, described := n.describe(lookup)
	if described {
		doc := about.Doc
		if strings.HasSuffix(name, ".length") {
			doc = "How long it is, or how many there are: " + strings.ToLower(doc[:1]) + doc[1:]
		}
		fmt.Fprintf(&b, "\n%s\n", doc)
	}
	if to := n.fields.Canonical(lookup); to != lookup {
		fmt.Fprintf(&b, "\nAn old name of `%s`.\n", to)
	}
	switch k, isKind := n.kinds[f.Kind]; {
	case lookup != name:
		b.WriteString("\nOf any change of a file: opened for writing, renamed, removed, linked, its owner or permissions changed.\n")
	case isKind:
		fmt.Fprintf(&b, "\nOf `%s` events: %s\n", f.Kind, k.Doc)
	default:
		b.WriteString("\nOf every event.\n")
	}
	if f.Path() {
		b.WriteString("\nCompared as a path: in `~\"…\"` a `*` stays within a segment, `/**` at the end is everything below.\n")
	}
	if f.Iter != "" {
		fmt.Fprintf(&b, "\nOne value for each of `%s`; `%s[A]` binds one of them.\n", f.Iter, f.Iter)
	}
	if about.Time {
		b.WriteString("\nA time: `field < 5m` compares its age.\n")
	}
	weight := "a plain read"
	if f.Weight > 0 {
		weight = fmt.Sprint(f.Weight)
	}
	fmt.Fprintf(&b, "\nWeight: %s", weight)
	return b.String()
}

// constantDoc gives the value of a constant in the forms that people use.
func constantDoc(name string) string {
	v, _ := check.Constant(name)
	switch {
	case strings.HasPrefix(name, "S_I"):
		return fmt.Sprintf("0%o", v)
	case v > 9:
		return fmt.Sprintf("%d (%#x)", v, v)
	}
	return fmt.Sprint(v)
}

// maxMacroText bounds how much of a macro is shown.
const maxMacroText = 2000

// macroDoc shows a macro: what is said about it, and its body.
func (d *document) macroDoc(m def) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** macro", m.name)
	if s := strings.TrimSpace(entry(m.body, "description").Value()); s != "" {
		b.WriteString("\n\n" + s)
	}
	body := strings.TrimSpace(entry(m.body, "expression").Value())
	if v := entry(m.body, "values"); v != nil {
		var values []string
		for _, it := range items(v) {
			values = append(values, it.Value())
		}
		body = strings.Join(values, ", ")
	}
	if len(body) > maxMacroText {
		body = strings.ToValidUTF8(body[:maxMacroText], "") + "…"
	}
	if body != "" {
		b.WriteString("\n\n```secl\n" + strings.ReplaceAll(body, "```", "` ` `") + "\n```")
	}
	fmt.Fprintf(&b, "\n\n%s", d.name)
	return b.String()
}
