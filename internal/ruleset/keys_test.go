package ruleset

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestKeys holds that every key that the reader of policies knows is
// described, and that nothing else is.
func TestKeys(t *testing.T) {
	var described []string
	for _, object := range ObjectNames() {
		keys := Keys(object)
		if len(keys) == 0 {
			t.Errorf("%s has no keys", object)
		}
		var names []string
		for _, k := range keys {
			names = append(names, k.Name)
			if k.Doc == "" {
				t.Errorf("key %s of %s is not described in keyTable", k.Name, object)
			}
			if (k.Shape == ShapeObject || k.Shape == ShapeObjects) != (k.Object != "") {
				t.Errorf("key %s of %s has shape %d and object %q", k.Name, object, k.Shape, k.Object)
			}
		}
		for name := range keyTable[object] {
			if !slices.Contains(names, name) {
				t.Errorf("keyTable describes %s of %s, which is not read", name, object)
			}
		}
		described = append(described, sorted(names))
	}
	read := readerTables(t)
	for _, r := range read {
		if !slices.Contains(described, r) {
			t.Errorf("the reader knows the keys %s, no mapping in keys.go has them", r)
		}
	}
	for _, d := range described {
		if !slices.Contains(read, d) {
			t.Errorf("no reader knows the keys %s", d)
		}
	}
}

func sorted(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(names, " ")
}

// readerTables finds the lists of known keys in the calls of reader.keys in
// this package's source.
func readerTables(t *testing.T) []string {
	fset := token.NewFileSet()
	pkgs, err := parser.ParseDir(fset, ".", func(i fs.FileInfo) bool { return !strings.HasSuffix(i.Name(), "_test.go") }, 0)
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string][]string{"documentKeys": documentKeys, "macroKeys": macroKeys, "actionKeys": actionKeys, "setKeys": setKeys,
		"watchKeys": watchKeys, "allowKeys": allowKeys}
	var out []string
	for _, f := range pkgs["ruleset"].Files {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 4 {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); !ok || sel.Sel.Name != "keys" {
				return true
			}
			switch known := call.Args[2].(type) {
			case *ast.CompositeLit:
				var names []string
				for _, e := range known.Elts {
					s, err := strconv.Unquote(e.(*ast.BasicLit).Value)
					if err != nil {
						t.Fatal(err)
					}
					names = append(names, s)
				}
				out = append(out, sorted(names))
			case *ast.IndexExpr: // patternKeys[key]
				for _, names := range patternKeys {
					out = append(out, sorted(names))
				}
			case *ast.Ident:
				switch names := tables[known.Name]; {
				case known.Name == "nil": // tags have any keys
				case known.Name == "known": // of rules, by what the file is
					out = append(out, sorted(ruleKeys), sorted(folderKeys), sorted(watchEntryKeys))
				case names == nil:
					t.Errorf("%s: a table %s that this test does not know", fset.Position(call.Pos()), known.Name)
				default:
					out = append(out, sorted(names))
				}
			}
			return true
		})
	}
	return out
}

// TestDescribedKeysAreRead holds that the loader takes each key that is
// described without a word about the key itself.
func TestDescribedKeysAreRead(t *testing.T) {
	schema, err := NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	for object, where := range map[string]string{
		PolicyFile: "%: x\n", RuleFile: "id: a\n%: x\n", "macro": "macros:\n- %: x\n", "rule": "rules:\n- %: x\n",
		"action": "rules:\n- id: a\n  actions:\n  - %: x\n", "set": "rules:\n- id: a\n  actions:\n  - set:\n      %: x\n",
		"kill": "rules:\n- id: a\n  actions:\n  - kill:\n      %: x\n", "watch": "id: a\nwatch:\n  %: x\n",
		"watch entry": "watch:\n- %: x\n", "allow": "watch:\n- id: a\n  allow:\n  - %: x\n", "sequence": "rules:\n- id: a\n  sequence:\n    %: x\n",
	} {
		name := "x.policy"
		if object == RuleFile || object == "watch" {
			name = "rule.yaml"
		}
		for _, k := range append(Keys(object), Key{Name: "nonsense"}) {
			text := strings.ReplaceAll(where, "%", k.Name)
			_, report, err := Load(Config{Schema: schema}, []File{{Name: name, Data: []byte(text)}})
			if err != nil {
				t.Fatal(err)
			}
			unknown := slices.ContainsFunc(report.Problems, func(p Problem) bool { return strings.HasPrefix(p.Msg, "unknown key") })
			if unknown != (k.Name == "nonsense") {
				t.Errorf("key %s of %s: unknown %v", k.Name, object, unknown)
			}
		}
	}
}
