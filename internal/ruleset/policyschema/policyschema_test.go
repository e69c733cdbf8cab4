package policyschema_test

import (
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/policyschema"
	"github.com/clewsec/clew/rules"
)

var update = flag.Bool("update", false, "rewrite docs/formats/policy.schema.json")

func schema(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	text, err := policyschema.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func validate(t *testing.T, s *jsonschema.Resolved, name, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	// What JSON has no form for is not valid either; the detour makes of the
	// rest what a validator of JSON sees.
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

// TestPublished holds that the schema beside the documentation is this one.
func TestPublished(t *testing.T) {
	const name = "../../../docs/formats/policy.schema.json"
	want, err := policyschema.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("policy.schema.json is not up to date, run go test ./internal/ruleset/policyschema -update")
	}
}

// TestShipped holds that every shipped rule, and the rules of the
// documentation, are valid.
func TestShipped(t *testing.T) {
	s := schema(t)
	files, err := ruleset.ReadFiles(rules.FS, ".", "rules")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("%d files", len(files))
	}
	for _, f := range files {
		if err := validate(t, s, f.Name, string(f.Data)); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	docs, err := os.ReadFile("../../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, block := range strings.Split(string(docs), "```yaml\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		if !strings.HasPrefix(text, "id: ") {
			continue
		}
		seen++
		if err := validate(t, s, "rules.md", text); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
	if seen < 4 {
		t.Errorf("%d rules in the documentation", seen)
	}
}

// TestFiles looks at files that are valid and at files that are not: those
// must be refused, or warned about, by the reader of policies, too.
func TestFiles(t *testing.T) {
	s := schema(t)
	fields, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, archive := range []struct {
		name  string
		valid bool
	}{{"testdata/valid.txtar", true}, {"testdata/invalid.txtar", false}} {
		a, err := txtar.ParseFile(archive.name)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Files) < 5 {
			t.Fatalf("%s has %d files", archive.name, len(a.Files))
		}
		for _, f := range a.Files {
			if err := validate(t, s, f.Name, string(f.Data)); (err == nil) != archive.valid {
				t.Errorf("%s: valid %v: %v", f.Name, err == nil, err)
			}
			_, report, err := ruleset.Load(ruleset.Config{Schema: fields}, []ruleset.File{{Name: f.Name, Data: f.Data}})
			if err != nil {
				t.Fatal(err)
			}
			// Warnings about what a valid file means are none of the schema's.
			ok := !slices.ContainsFunc(report.Problems, func(p ruleset.Problem) bool {
				return !p.Warning || strings.HasPrefix(p.Msg, "unknown key")
			})
			if ok != archive.valid {
				t.Errorf("%s: the reader of policies says %v", f.Name, report.Problems)
			}
		}
	}
}

// TestSameKeys holds that schema and reader know the same keys of every
// mapping.
func TestSameKeys(t *testing.T) {
	text, err := policyschema.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Defs map[string]struct {
			Properties           map[string]any `json:"properties"`
			AdditionalProperties any            `json:"additionalProperties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, name := range ruleset.ObjectNames() {
		d, ok := doc.Defs[strings.ReplaceAll(name, " ", "_")]
		if !ok || d.AdditionalProperties != false {
			t.Errorf("%s: in the schema %v, other keys %v", name, ok, d.AdditionalProperties)
		}
		var want, got []string
		for _, k := range ruleset.Keys(name) {
			want = append(want, k.Name)
		}
		for k := range d.Properties {
			got = append(got, k)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Errorf("%s: schema has %v, reader %v", name, got, want)
		}
	}
}
