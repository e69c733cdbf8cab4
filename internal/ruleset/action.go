package ruleset

import (
	"slices"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/secl"
	"go.yaml.in/yaml/v3"
)

// Action is what a rule does beside raising a signal. Exactly one of the
// pointers is set.
type Action struct {
	// Filter is a condition on the event; where it is not empty the action is
	// carried out only if it holds.
	Filter        string
	Set           *SetAction
	Kill          *KillAction
	Hash          *HashAction
	Log           *LogAction
	Coredump      bool
	NetworkFilter *NetworkFilterAction
	At            Position

	filter  text
	program *program
}

// SetAction writes a variable.
type SetAction struct {
	Name string
	// Scope is empty for a variable of the whole agent, else process,
	// container or cgroup.
	Scope string
	// Value, Field or Expression is the source.
	Field      string
	Expression string
	Append     bool
	ScopeField string
	Size       int
	TTL        time.Duration
	Private    bool
	Inherited  bool

	// valid tells that the action is complete.
	valid           bool
	value, fallback *yaml.Node
	expression      text
	field           text
	scopeField      text
	// scope is the process id whose process gets the value.
	scope    *secl.Value[eventT, Element]
	source   *secl.Value[eventT, Element]
	constant cell
	variable *variable
}

// KillAction ends the process, container or control group.
type KillAction struct {
	Signal string
	Scope  string
}

// HashAction asks for the hashes of a file of the event.
type HashAction struct {
	// Field is the object; empty for the file that is opened or executed.
	Field       string
	MaxFileSize int64

	targets map[event.Kind]hashTarget
}

// LogAction writes a line to the agent's log.
type LogAction struct {
	Level   string
	Message string

	message text
	// text renders a message that has variables or fields in it.
	text *secl.Value[eventT, Element]
}

// NetworkFilterAction installs a packet filter.
type NetworkFilterAction struct {
	Filter string
	Policy string
	Scope  string
}

var (
	actionKeys = []string{"filter", "set", "kill", "hash", "coredump", "log", "network_filter"}
	setKeys    = []string{
		"name", "value", "field", "expression", "append", "scope", "scope_field", "size", "ttl", "private", "inherited", "default_value",
	}
	scopes = []string{"process", "container", "cgroup"}
)

func (r *reader) action(n *yaml.Node) Action {
	a := Action{At: r.pf.pos(n)}
	count := 0
	r.keys(n, "action", actionKeys, func(key string, v *yaml.Node) {
		if key != "filter" {
			count++
		}
		switch key {
		case "filter":
			a.filter = r.text(v, key)
			a.Filter = a.filter.s
		case "set":
			a.Set = r.setAction(v)
		case "kill":
			a.Kill = &KillAction{Scope: "process"}
			r.keys(v, key, []string{"signal", "scope", "disable_container_disarmer", "disable_executable_disarmer"}, func(k string, v *yaml.Node) {
				switch k {
				case "signal":
					a.Kill.Signal = r.text(v, k).s
				case "scope":
					a.Kill.Scope = r.scope(v)
				default:
					r.bool(v, k)
				}
			})
			if a.Kill.Signal == "" || !secl.IsConstant(a.Kill.Signal) {
				r.note(v, false, "kill needs a signal such as SIGKILL")
			}
		case "hash":
			a.Hash = &HashAction{}
			if v.Tag == "!!null" {
				return
			}
			r.keys(v, key, []string{"field", "max_file_size"}, func(k string, v *yaml.Node) {
				if k == "field" {
					a.Hash.Field = r.text(v, k).s
				} else {
					a.Hash.MaxFileSize = r.int(v, k)
				}
			})
		case "coredump":
			a.Coredump = true
			r.keys(v, key, []string{"process", "mount", "dentry", "no_compression"}, func(k string, v *yaml.Node) { r.bool(v, k) })
		case "log":
			a.Log = &LogAction{Level: "info"}
			r.keys(v, key, []string{"level", "message"}, func(k string, v *yaml.Node) {
				if k == "level" {
					a.Log.Level = r.level(v)
				} else {
					a.Log.message = r.text(v, k)
					a.Log.Message = a.Log.message.s
				}
			})
			if a.Log.Message == "" {
				r.note(v, true, "log has no message")
			}
		case "network_filter":
			a.NetworkFilter = &NetworkFilterAction{Policy: "drop", Scope: "process"}
			r.keys(v, key, []string{"filter", "policy", "scope"}, func(k string, v *yaml.Node) {
				switch k {
				case "filter":
					a.NetworkFilter.Filter = r.text(v, k).s
				case "policy":
					a.NetworkFilter.Policy = r.text(v, k).s
				case "scope":
					a.NetworkFilter.Scope = r.scope(v)
				}
			})
		}
	})
	if count != 1 {
		r.note(n, false, "an action has exactly one of set, kill, hash, coredump, log and network_filter")
	}
	return a
}

// otherLevels are names that other loggers have for the levels.
var otherLevels = map[string]string{"trace": "debug", "warning": "warn", "critical": "error"}

func (r *reader) level(v *yaml.Node) string {
	t := r.text(v, "level")
	t.s = strings.ToLower(t.s)
	if l, ok := otherLevels[t.s]; ok {
		t.s = l
	}
	if !slices.Contains(Levels, t.s) {
		r.closed(t, "level", Levels)
		return "info"
	}
	return t.s
}

func (r *reader) scope(v *yaml.Node) string {
	s := r.text(v, "scope")
	if s.s != "" && !slices.Contains(scopes, s.s) {
		r.closed(s, "scope", scopes)
	}
	return s.s
}

func (r *reader) setAction(n *yaml.Node) *SetAction {
	a := &SetAction{Size: defaultSetSize}
	sources := 0
	r.keys(n, "set", setKeys, func(key string, v *yaml.Node) {
		switch key {
		case "name":
			a.Name = r.text(v, key).s
		case "value":
			a.value = v
			sources++
		case "field":
			a.field = r.text(v, key)
			a.Field = a.field.s
			sources++
		case "expression":
			a.expression = r.text(v, key)
			a.Expression = a.expression.s
			sources++
		case "append":
			a.Append = r.bool(v, key)
		case "scope":
			a.Scope = r.scope(v)
		case "scope_field":
			a.scopeField = r.text(v, key)
			a.ScopeField = a.scopeField.s
		case "size":
			a.Size = int(r.int(v, key))
			if a.Size <= 0 || a.Size > maxSetSize {
				r.note(v, false, "size must be between 1 and %d", maxSetSize)
				a.Size = defaultSetSize
			}
		case "ttl":
			a.TTL = r.duration(v, key)
		case "private":
			a.Private = r.bool(v, key)
		case "inherited":
			a.Inherited = r.bool(v, key)
		case "default_value":
			a.fallback = v
		}
	})
	switch {
	case !variableName(a.Name):
		r.note(n, false, "set needs a name of letters, digits and _")
	case sources != 1:
		r.note(n, false, "set needs exactly one of value, field and expression")
	case a.expression.s != "" && a.fallback == nil:
		r.note(n, false, "set with an expression needs a default_value")
	case a.Inherited && a.Scope != "process":
		r.note(n, false, "only variables of the scope process can be inherited")
	case a.ScopeField != "" && a.Scope != "process":
		r.note(n, false, "scope_field works with the scope process only")
	default:
		a.valid = true
	}
	return a
}

func variableName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}
