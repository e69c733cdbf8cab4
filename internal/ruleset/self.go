package ruleset

import (
	"strings"

	"github.com/clewsec/clew/internal/secl/ast"
)

// Lists by which rules guard the agent itself. They are known to every rule;
// their values are the agent's that the rules are loaded for, and in a replay
// those of the agent that was recorded.
const (
	// agentPIDName lists the agent's process id. The server and whatever else
	// the agent starts are its children.
	agentPIDName = "CLEW_AGENT_PID"
	// agentFilesName lists globs of the agent's files.
	agentFilesName = "CLEW_AGENT_FILES"
)

// NoAgentPID stands in CLEW_AGENT_PID where rules are loaded for no agent, as
// in their tests: no process of Linux has it.
const NoAgentPID = 1<<31 - 1

// installed are clew's files where packages put them, and its data where they
// are by default.
var installed = []string{
	"/usr/bin/clew", "/usr/local/bin/clew", "/etc/clew/**", "/var/lib/clew/**",
	"/etc/systemd/system/clew.service", "/etc/systemd/system/clew.service.d/*",
	"/lib/systemd/system/clew.service", "/usr/lib/systemd/system/clew.service",
}

// agentLists are the macros of f. A file whose name is a pattern itself would
// stand for others and is left out.
func agentLists(f *Facts) map[string]ast.Node {
	pid := int64(NoAgentPID)
	if f.AgentPID != 0 {
		pid = int64(f.AgentPID)
	}
	files := &ast.List{}
	for i, name := range append(installed[:len(installed):len(installed)], f.AgentFiles...) {
		base := strings.TrimSuffix(strings.TrimSuffix(name, "/**"), "/*")
		if i >= len(installed) && (!strings.HasPrefix(base, "/") || strings.ContainsAny(base, `*?[]"`)) {
			continue
		}
		files.Items = append(files.Items, &ast.String{Kind: ast.Pattern, Value: name})
	}
	return map[string]ast.Node{
		agentPIDName:   &ast.List{Items: []ast.Node{&ast.Int{Value: pid}}},
		agentFilesName: files,
	}
}

// predefined tells whether a name is one that no policy may give to a macro.
func predefined(name string) bool {
	return name == ownMapsName || name == agentPIDName || name == agentFilesName
}
