package lsp

import (
	"fmt"

	"github.com/clewsec/clew/internal/ruleset/assist"
)

// answers are the methods about one document. Each returns what the protocol
// asks for, nil where there is nothing.
var answers = map[string]func(s *Server, name string, p *documentParams) (any, error){
	"textDocument/completion":          completion,
	"textDocument/hover":               hovered,
	"textDocument/definition":          definition,
	"textDocument/references":          references,
	"textDocument/documentSymbol":      symbols,
	"textDocument/formatting":          formatting,
	"textDocument/codeAction":          actions,
	"textDocument/semanticTokens/full": tokens,
}

func completion(s *Server, name string, p *documentParams) (any, error) {
	c := s.space.Complete(name, p.Position)
	out := completionList{IsIncomplete: c.Incomplete, Items: make([]completionItem, 0, len(c.Items))}
	for i := range c.Items {
		it := &c.Items[i]
		x := completionItem{
			Label: it.Label, Kind: it.Kind, Detail: it.Detail, FilterText: it.Filter, TextEdit: it.Edit,
			SortText: fmt.Sprintf("%04d", i), // clients sort by this alone
		}
		if it.Doc != "" {
			x.Documentation = &markup{"markdown", it.Doc}
		}
		out.Items = append(out.Items, x)
	}
	return out, nil
}

func hovered(s *Server, name string, p *documentParams) (any, error) {
	h, ok := s.space.Hover(name, p.Position)
	if !ok {
		return nil, nil
	}
	return hover{Contents: markup{"markdown", h.Text}, Range: h.Range}, nil
}

func (s *Server) locations(found []assist.Location) []location {
	out := make([]location, 0, len(found))
	for _, l := range found {
		out = append(out, location{URI: s.uriOf(l.Name), Range: l.Range})
	}
	return out
}

func definition(s *Server, name string, p *documentParams) (any, error) {
	return s.locations(s.space.Definition(name, p.Position)), nil
}

func references(s *Server, name string, p *documentParams) (any, error) {
	return s.locations(s.space.References(name, p.Position, p.Context.IncludeDeclaration)), nil
}

func symbols(s *Server, name string, _ *documentParams) (any, error) {
	out := []documentSymbol{}
	for _, x := range s.space.Symbols(name) {
		kind := symbolEvent
		if x.Macro {
			kind = symbolFunction
		}
		out = append(out, documentSymbol{Name: x.Name, Detail: x.Detail, Kind: kind, Range: x.Range, SelectionRange: x.Selection})
	}
	return out, nil
}

func formatting(s *Server, name string, _ *documentParams) (any, error) {
	if _, ok := s.space.Text(name); !ok {
		return []assist.Edit{}, nil // none of ours
	}
	edits, err := s.space.Format(name)
	if edits == nil {
		edits = []assist.Edit{}
	}
	return edits, err
}

func actions(s *Server, name string, p *documentParams) (any, error) {
	out := []codeAction{}
	for _, a := range s.space.Actions(name, p.Range) {
		x := codeAction{Title: a.Title, Kind: "quickfix", IsPreferred: a.Mends != nil}
		x.Edit.Changes = map[string][]assist.Edit{p.TextDocument.URI: a.Edits}
		if a.Mends != nil {
			x.Diagnostics = []diagnostic{diagnosticOf(a.Mends)}
		}
		out = append(out, x)
	}
	return out, nil
}

// tokens encodes words as the protocol does: each by its distance from the one
// before, with length, type and no modifiers.
func tokens(s *Server, name string, _ *documentParams) (any, error) {
	out := semanticTokens{Data: []int{}}
	var last assist.Position
	for _, t := range s.space.Tokens(name) {
		at := t.Range.Start
		line, char := at.Line-last.Line, at.Character
		if line == 0 {
			char -= last.Character
		}
		out.Data = append(out.Data, line, char, t.Range.End.Character-at.Character, t.Type, 0)
		last = at
	}
	return out, nil
}
