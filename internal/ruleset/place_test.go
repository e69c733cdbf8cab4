package ruleset

import (
	"strings"
	"testing"
)

// TestPlace holds that a problem is shown where it stands in the file, however
// the text is written. The place is marked by «»; columns count characters.
func TestPlace(t *testing.T) {
	schema, err := NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, marked := range []string{
		"rules:\n  - id: a\n    expression: exec.uid == 0 && «exec.uidd» == 0\n",
		"rules:\n  - id: a\n    expression: exec.file.name == \"é𝄞\" && «exec.uidd» == 0\n",
		"rules:\n  - id: a\n    expression: \"exec.file.name == \\\"\\u00e9\\\" && «exec.uidd» == 0\"\n",
		"rules:\n  - id: a\n    expression: 'exec.file.name == \"it''s\" && «exec.uidd» == 0'\n",
		"rules:\n  - id: a\n    expression: >\n      exec.file.name == \"exec.uidd\"\n\n      && «exec.uidd» == 0\n",
		"rules:\n  - id: a\n    expression: |\n      exec.file.name == \"exec.uidd\" # exec.uidd\n      && «exec.uidd» == 0\n",
		"rules:\n  - id: a\n    expression: exec.uid == 0 &&\n      «exec.uidd» == 0\n",
		"rules:\n  - {id: a, expression: «exec.uidd» == 0}\n",
		"rules:\r\n  - id: a\r\n    expression: |\r\n      exec.uid == 0\r\n      && «exec.uidd» == 0\r\n",
		"macros:\n  - id: M\n    expression: «exec.uidd» == 0\n",
		"rules:\n  - id: ü\n    id2: é\n    filters: [\"é\", «os.is_debia»]\n    expression: exec.uid == 0\n",
	} {
		text := strings.NewReplacer("«", "", "»", "").Replace(marked)
		want := [2]Position{}
		line, col := 1, 1
		for _, r := range marked {
			switch r {
			case '«':
				want[0] = Position{"x.policy", line, col}
			case '»':
				want[1] = Position{"x.policy", line, col}
			case '\n':
				line, col = line+1, 1
			default:
				col++
			}
		}
		_, report, err := Load(Config{Schema: schema}, []File{{Name: "x.policy", Data: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, p := range report.Problems {
			if p.Nearest != "" {
				found = true
				if got := [2]Position{p.At, p.End}; got != want {
					t.Errorf("%s\n%v, want %v", marked, got, want)
				}
			}
		}
		if !found {
			t.Errorf("%s\nno problem names a nearest name: %+v", marked, report.Problems)
		}
	}
}
