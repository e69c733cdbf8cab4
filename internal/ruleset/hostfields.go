package ruleset

import "github.com/clewsec/clew/internal/secl/check"

// HostFields are the fields that filters of rules and macros can name, sorted.
func HostFields() ([]check.Field, error) {
	e, err := newFilterEnv()
	if err != nil {
		return nil, err
	}
	out := make([]check.Field, 0, len(e.Schema.Names()))
	for _, n := range e.Schema.Names() {
		if f, ok := e.Schema.Field(n); ok {
			out = append(out, f.Field)
		}
	}
	return out, nil
}
