package ruleset

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Item is one line of what a check of policies prints as JSON.
type Item struct {
	ID       string   `json:"id"`
	Status   Status   `json:"status"`
	Reason   string   `json:"reason"`
	Version  string   `json:"version"`
	Policy   string   `json:"policy"`
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Problems []Detail `json:"problems"`
}

// Detail is a problem in JSON.
type Detail struct {
	Severity string `json:"severity"` // error or warning
	Message  string `json:"message"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Source   string `json:"source,omitempty"`
}

// Document is what a check of policies prints as JSON: the rules, and what is
// wrong with files and macros.
type Document struct {
	Items    []Item   `json:"items"`
	Problems []Detail `json:"problems"`
}

func detail(p Problem) Detail {
	d := Detail{Severity: "error", Message: p.Msg, File: p.At.File, Line: p.At.Line, Column: p.At.Column, Source: p.Source}
	if p.Warning {
		d.Severity = "warning"
	}
	if p.Macro != "" {
		d.Message = "macro " + p.Macro + ": " + d.Message
	}
	return d
}

// Document puts the report in the form that is printed as JSON.
func (r *Report) Document() Document {
	doc := Document{Items: []Item{}, Problems: []Detail{}}
	used := make([]bool, len(r.Problems))
	for _, s := range r.Rules {
		it := Item{
			ID: s.ID, Status: s.Status, Reason: s.Reason, Version: s.Version, Policy: s.Policy,
			File: s.At.File, Line: s.At.Line, Column: s.At.Column, Problems: []Detail{},
		}
		for i, p := range r.Problems {
			if !used[i] && p.Rule != "" && p.Rule == s.ID && p.At.File == s.At.File && s.Status != Filtered {
				used[i] = true
				it.Problems = append(it.Problems, detail(p))
			}
		}
		doc.Items = append(doc.Items, it)
	}
	for i, p := range r.Problems {
		if !used[i] {
			doc.Problems = append(doc.Problems, detail(p))
		}
	}
	return doc
}

// WriteJSON writes the report as one JSON document.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r.Document()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteText writes the report for people: every problem with its place, the
// source line and a caret, then what became of the rules that are not loaded,
// and a sum.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	problems := slices.Clone(r.Problems)
	slices.SortStableFunc(problems, func(x, y Problem) int {
		return cmp.Or(strings.Compare(x.At.File, y.At.File), cmp.Compare(x.At.Line, y.At.Line))
	})
	for _, p := range problems {
		kind := "error"
		if p.Warning {
			kind = "warning"
		}
		about := ""
		switch {
		case p.Rule != "":
			about = "rule " + p.Rule + ": "
		case p.Macro != "":
			about = "macro " + p.Macro + ": "
		}
		fmt.Fprintf(&b, "%s: %s: %s%s\n", p.At, kind, about, p.Msg)
		if p.Source != "" {
			fmt.Fprintf(&b, "    %s\n    %s\n", p.Source, p.Carets)
		}
	}
	for _, s := range r.Rules {
		if s.Status == Filtered {
			fmt.Fprintf(&b, "%s: rule %s is not loaded: %s\n", s.At, s.ID, s.Reason)
		}
	}
	fmt.Fprintf(&b, "%d rules loaded, %d filtered, %d with errors\n", r.Count(Loaded), r.Count(Filtered), r.Count(Failed))
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
