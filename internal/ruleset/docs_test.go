package ruleset_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
)

// TestDocs loads every rule of docs/rules.md and runs the cases that follow
// it.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	id, name, rule, rules, cases := "", "", "", 0, 0
	first := regexp.MustCompile(`(?m)^  - id: (\w+)$`)
	blocks := strings.Split(string(data), "```")
	for i := 1; i < len(blocks); i += 2 {
		text, isYAML := strings.CutPrefix(blocks[i], "yaml\n")
		if !isYAML {
			continue
		}
		load := func() *ruleset.Set {
			set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: name, Data: []byte(rule)}})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Problems) > 0 || report.Count(ruleset.Loaded) != 1 {
				t.Fatalf("%s: %+v", id, report.Problems)
			}
			return set
		}
		if rest, isRule := strings.CutPrefix(text, "id: "); isRule {
			id, rule = strings.Fields(rest)[0], text
			name = id + "/rule.yaml"
			load()
			rules++
			continue
		}
		if strings.HasPrefix(text, "version: ") { // a policy of one rule
			id, name, rule = first.FindStringSubmatch(text)[1], "x.policy", text
			load()
			rules++
			continue
		}
		list, err := ruletest.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for j := range list {
			if err := ruletest.Run(load(), id, &list[j]); err != nil {
				t.Error(err)
			}
			cases++
		}
	}
	if rules < 4 || cases < 7 {
		t.Errorf("%d rules and %d cases", rules, cases)
	}
}
