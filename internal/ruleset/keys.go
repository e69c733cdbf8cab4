package ruleset

import (
	"fmt"
	"slices"
)

// Shape is the form of the value that a key of a policy file takes.
type Shape uint8

// The shapes of values. The plural is a list of them.
const (
	ShapeText Shape = iota + 1
	ShapeTexts
	// A condition in the rule language, a value in it, a condition on the host.
	ShapeExpression
	ShapeExpressions
	ShapeValues
	ShapeValue
	ShapeFilters
	ShapeYes // true or false
	ShapeInteger
	ShapeDuration
	ShapeObject
	ShapeObjects
	// A mapping with keys of any name.
	ShapePairs
	// An integer, a boolean, a text, or a list of one of them.
	ShapeLiteral
)

// Key describes a key of a mapping in a policy file.
type Key struct {
	Name  string
	Doc   string
	Shape Shape
	// Object is the name of the mapping that it takes, for ShapeObject and
	// ShapeObjects.
	Object string
	// Closed are the values there are, nil where any will do. A list has them
	// as members.
	Closed []string
	// Pattern is a regular expression that each text must match; empty for any.
	Pattern string
	// Required tells that a mapping without the key is refused.
	Required bool
}

// The mappings at the top of the two forms of policy files.
const (
	PolicyFile = "policy"
	RuleFile   = "rule file"
)

// Keys returns the keys of a mapping by its name: PolicyFile, RuleFile, or the
// Object of another key, in the order of the reader's tables. Nil means that
// there is no such mapping.
func Keys(object string) []Key {
	switch object {
	case PolicyFile:
		return describe(object, documentKeys)
	case RuleFile:
		return describe(object, folderKeys)
	case "macro":
		return describe(object, macroKeys)
	case "rule":
		return describe(object, ruleKeys)
	case "action":
		return describe(object, actionKeys)
	case "set":
		return describe(object, setKeys)
	case "watch":
		return describe(object, watchKeys)
	case "watch entry":
		return describe(object, watchEntryKeys)
	case "allow":
		return describe(object, allowKeys)
	}
	if names, ok := patternKeys[object]; ok {
		return describe(object, names)
	}
	names, ok := nestedKeys[object]
	if !ok {
		return nil
	}
	return describe(object, names)
}

// nestedKeys are the keys of mappings whose readers have no table of their own.
var nestedKeys = map[string][]string{
	"recommendation":   {"id", "label", "why"},
	"override_options": {"fields"},
	"kill":             {"signal", "scope", "disable_container_disarmer", "disable_executable_disarmer"},
	"hash":             {"field", "max_file_size"},
	"coredump":         {"process", "mount", "dentry", "no_compression"},
	"log":              {"level", "message"},
	"network_filter":   {"filter", "policy", "scope"},
}

// ObjectNames returns the names of all mappings, outermost first.
func ObjectNames() []string {
	out := []string{PolicyFile, RuleFile}
	for i := 0; i < len(out); i++ {
		for _, k := range Keys(out[i]) {
			if k.Object != "" && !slices.Contains(out, k.Object) {
				out = append(out, k.Object)
			}
		}
	}
	return out
}

// describe puts names together with what is known of them. A key that nobody
// has described takes anything.
func describe(object string, names []string) []Key {
	out := make([]Key, 0, len(names))
	for _, n := range names {
		k, ok := keyTable[object][n]
		switch {
		case ok:
		case object == RuleFile || object == "rule":
			k, ok = keyTable["rule"][n]
		case object == "watch entry":
			for _, from := range [...]string{"watch", RuleFile, "rule"} {
				if !ok {
					k, ok = keyTable[from][n]
				}
			}
		}
		if !ok {
			k = Key{Shape: ShapeLiteral}
		}
		k.Name = n
		out = append(out, k)
	}
	return out
}

var keyTable = map[string]map[string]Key{
	PolicyFile: {
		"version":           {Shape: ShapeText, Doc: "Version of the policy; its signals carry it."},
		"type":              {Shape: ShapeText, Doc: "Kind of policy. Read and not used."},
		"replace_policy_id": {Shape: ShapeText, Doc: "Id of the policy that this one stands in for. Read and not used."},
		"macros":            {Shape: ShapeObjects, Object: "macro", Doc: "Names for conditions and lists. They are known to the rules of all files."},
		"rules":             {Shape: ShapeObjects, Object: "rule", Doc: "The rules."},
		"watch":             {Shape: ShapeObjects, Object: "watch entry", Doc: "Files that few may change. Each member becomes a rule about every way in which they change."},
	},
	"macro": {
		"id":            {Shape: ShapeText, Required: true, Pattern: `^[a-zA-Z_][a-zA-Z0-9_.]*$`, Doc: "Name of the macro: letters, digits and `_`. Macros of all files share one space."},
		"description":   {Shape: ShapeText, Doc: "What the macro stands for."},
		"expression":    {Shape: ShapeExpression, Doc: "What the name stands for: an expression or a list in brackets. Either this or `values`."},
		"values":        {Shape: ShapeTexts, Doc: "The list that the name stands for: texts; `~\"…\"` is a pattern, `r\"…\"` a regular expression. Either this or `expression`."},
		"combine":       {Shape: ShapeText, Closed: []string{"merge", "override"}, Doc: "What to do with a macro of the same name in an earlier file: add to its list, or take its place."},
		"agent_version": {Shape: ShapeText, Doc: "Constraint on the level of the language, such as `>= 7.42`. Where it does not hold the macro is left out."},
		"filters":       {Shape: ShapeFilters, Doc: "Conditions on the host, one of which must hold: `os.id == \"debian\"`, `kernel.version.major >= 5`."},
	},
	"rule": {
		"id":               {Shape: ShapeText, Required: true, Pattern: ruleID.String(), Doc: "Name of the rule: letters, digits and `_`. In a folder of its own it is the folder's name."},
		"version":          {Shape: ShapeText, Doc: "Version of the rule; its signals carry it."},
		"expression":       {Shape: ShapeExpression, Doc: "The condition, in SECL. `&&` and `||` have one precedence and nest to the right: write parentheses."},
		"description":      {Shape: ShapeText, Doc: "The title of its signals, one sentence in the past tense."},
		"tags":             {Shape: ShapePairs, Doc: "Names with values, for whoever reads the signals. `threat_score` gives a severity to a rule without one."},
		"product_tags":     {Shape: ShapeTexts, Doc: "Tags such as `tactic:TA0003-persistence`; tactics and techniques are taken from them."},
		"agent_version":    {Shape: ShapeText, Doc: "Constraint on the level of the language, such as `>= 7.42`. Where it does not hold the rule is left out."},
		"filters":          {Shape: ShapeFilters, Doc: "Conditions on the host, one of which must hold: `os.id == \"debian\"`, `kernel.version.major >= 5`."},
		"disabled":         {Shape: ShapeYes, Doc: "Leave the rule out. With nothing but an `id` it switches a rule of an earlier file off, or with false on."},
		"combine":          {Shape: ShapeText, Closed: []string{"override"}, Doc: "`override` changes a rule of the same id in an earlier file."},
		"override_options": {Shape: ShapeObject, Object: "override_options", Doc: "What an override changes."},
		"actions":          {Shape: ShapeObjects, Object: "action", Doc: "What is done when the rule matches, beside the signal."},
		"every":            {Shape: ShapeDuration, Doc: "Shortest time between two signals, such as `10s`. A rule without it raises at most 10 a second, 40 at once."},
		"limiter_token":    {Shape: ShapeValues, Doc: "Fields each of whose values has a rate of its own."},
		"silent":           {Shape: ShapeYes, Doc: "Evaluate the rule and carry out its actions, but raise no signal."},
		"group_id":         {Shape: ShapeText, Doc: "The id that signals carry in place of the rule's."},
		"priority":         {Shape: ShapeInteger, Doc: "Rules with a higher one are evaluated first. It matters where one rule sets a variable that another reads."},
		"sequence":         {Shape: ShapeObject, Object: "sequence", Doc: "Conditions that come true one after the other, by different events. In place of `expression`."},
		"threshold":        {Shape: ShapeObject, Object: "threshold", Doc: "So many events that fulfil the expression, in a time."},
		"absence":          {Shape: ShapeObject, Object: "absence", Doc: "An event that fulfils the expression and is not followed by another one in time."},
	},
	RuleFile: {
		"type":        {Shape: ShapeText, Closed: Types, Doc: "What the rule is about. Without it, what its kind of event is about."},
		"severity":    {Shape: ShapeText, Closed: Severities, Doc: "How much a signal matters. A signal of medium and more makes its context hot: all of it is kept."},
		"techniques":  {Shape: ShapeTexts, Pattern: `^T[0-9]{4}(\.[0-9]{3})?$`, Doc: "Techniques of ATT&CK: `T1059`, `T1059.004`."},
		"tactics":     {Shape: ShapeTexts, Pattern: `^TA[0-9]{4}$`, Doc: "Tactics of ATT&CK: `TA0002`."},
		"recommended": {Shape: ShapeObjects, Object: "recommendation", Doc: "What a person should do, in this order."},
		"sees":        {Shape: ShapeText, Doc: "What the rule sees, in words."},
		"misses":      {Shape: ShapeText, Doc: "What it does not see: how one could get by."},
		"watch":       {Shape: ShapeObject, Object: "watch", Doc: "Files that few may change, in place of `expression`: the rule is about every way in which they change."},
	},
	"watch": {
		"paths":      {Shape: ShapeTexts, Required: true, Doc: "Absolute paths; `*` stands for anything within a segment, `/**` at the end for everything below. `/dir/` is the directory and what stands directly in it."},
		"recursive":  {Shape: ShapeYes, Doc: "Everything below the paths belongs to them."},
		"operations": {Shape: ShapeTexts, Closed: Operations, Doc: "What counts as a change; without it everything does."},
		"attempts":   {Shape: ShapeYes, Doc: "What the kernel refused counts, too."},
		"allow":      {Shape: ShapeObjects, Object: "allow", Doc: "Who may make a change. One member that fits is enough."},
	},
	"allow": {
		"executable":  {Shape: ShapeTexts, Doc: "Paths, or globs, of the program that makes the change."},
		"descendants": {Shape: ShapeYes, Doc: "Also what one of those programs started, however far below."},
		"package":     {Shape: ShapeYes, Doc: "The program that makes the change must belong to a package of the operating system."},
		"user":        {Shape: ShapeTexts, Doc: "Names or numbers of the effective user."},
		"condition":   {Shape: ShapeExpression, Doc: "A condition on who makes the change, in SECL: `process.*`, `container.*`, `event.*`."},
	},
	"recommendation": {
		"id":    {Shape: ShapeText, Required: true, Doc: "Name of the step, the same in all rules that recommend it."},
		"label": {Shape: ShapeText, Required: true, Doc: "The step, as an instruction."},
		"why":   {Shape: ShapeText, Doc: "Why it helps, in a sentence."},
	},
	"override_options": {
		"fields": {Shape: ShapeTexts, Closed: overridable, Doc: "The keys that are taken over; without it, all."},
	},
	"action": {
		"filter":         {Shape: ShapeExpression, Doc: "The action is carried out only where this condition holds, too."},
		"set":            {Shape: ShapeObject, Object: "set", Doc: "Write a variable, which conditions read as `${name}`, `${process.name}`, `${container.name}` or `${cgroup.name}`."},
		"kill":           {Shape: ShapeObject, Object: "kill", Doc: "Send a signal to the process, or to all of its container or control group."},
		"hash":           {Shape: ShapeObject, Object: "hash", Doc: "Compute the hashes of a file of the event."},
		"coredump":       {Shape: ShapeObject, Object: "coredump", Doc: "Keep the memory of the process."},
		"log":            {Shape: ShapeObject, Object: "log", Doc: "Write a line to the agent's log."},
		"network_filter": {Shape: ShapeObject, Object: "network_filter", Doc: "Install a packet filter for the process or its control group."},
	},
	"set": {
		"name":          {Shape: ShapeText, Required: true, Pattern: `^[a-zA-Z_][a-zA-Z0-9_]*$`, Doc: "Name of the variable: letters, digits and `_`."},
		"value":         {Shape: ShapeLiteral, Doc: "The value: an integer, a boolean, a text, or a list. One of `value`, `field` and `expression`."},
		"field":         {Shape: ShapeValue, Doc: "The field whose value is taken."},
		"expression":    {Shape: ShapeValue, Doc: "The expression whose value is taken; `default_value` says what the variable is before."},
		"append":        {Shape: ShapeYes, Doc: "Add to a list without doubles instead of replacing."},
		"scope":         {Shape: ShapeText, Closed: scopes, Doc: "Whose variable it is. Without a scope there is one for the host."},
		"scope_field":   {Shape: ShapeText, Doc: "The process whose variable is written, where it is not the event's own."},
		"size":          {Shape: ShapeInteger, Doc: "How many members a list has at most; the oldest goes first."},
		"ttl":           {Shape: ShapeDuration, Doc: "How long a value lasts, such as `10m`."},
		"private":       {Shape: ShapeYes, Doc: "Not part of the events that leave the host."},
		"inherited":     {Shape: ShapeYes, Doc: "Descendants of the process read it, too. With the scope `process`."},
		"default_value": {Shape: ShapeLiteral, Doc: "What the variable is before anything was written."},
	},
	"kill": {
		"signal":                      {Shape: ShapeText, Required: true, Doc: "The signal, such as `SIGKILL`."},
		"scope":                       {Shape: ShapeText, Closed: scopes, Doc: "Who is sent the signal: the process, or all of its container or control group."},
		"disable_container_disarmer":  {Shape: ShapeYes, Doc: "Go on killing, however many containers it was."},
		"disable_executable_disarmer": {Shape: ShapeYes, Doc: "Go on killing, however many executables it was."},
	},
	"hash": {
		"field":         {Shape: ShapeText, Doc: "The file, such as `exec.file`. Without it, the file of the event."},
		"max_file_size": {Shape: ShapeInteger, Doc: "Larger files are left out, bytes."},
	},
	"coredump": {
		"process":        {Shape: ShapeYes, Doc: "Keep the memory of the process."},
		"mount":          {Shape: ShapeYes, Doc: "Keep its mounts."},
		"dentry":         {Shape: ShapeYes, Doc: "Keep its open files."},
		"no_compression": {Shape: ShapeYes, Doc: "Write it as it is."},
	},
	"log": {
		"level":   {Shape: ShapeText, Doc: "debug, info, warn or error."},
		"message": {Shape: ShapeText, Doc: "The line."},
	},
	"network_filter": {
		"filter": {Shape: ShapeText, Doc: "The packets, in the language of pcap-filter(7)."},
		"policy": {Shape: ShapeText, Doc: "drop or accept."},
		"scope":  {Shape: ShapeText, Closed: scopes, Doc: "Whose packets."},
	},
	"sequence": {
		"by":     byKey,
		"within": withinKey,
		"steps":  {Shape: ShapeExpressions, Required: true, Doc: "The conditions, 2 to 16. Each is met by another event; the signal belongs to that of the last."},
	},
	"threshold": {
		"by":       byKey,
		"within":   withinKey,
		"count":    {Shape: ShapeInteger, Required: true, Doc: "How many events, 2 to 10,000; with `distinct` how many values, 2 to 1,000."},
		"distinct": {Shape: ShapeValue, Doc: "The field whose different values are counted."},
	},
	"absence": {
		"by":     byKey,
		"within": withinKey,
		"of":     {Shape: ShapeExpression, Required: true, Doc: "The condition that is to be met in time."},
	},
}

var (
	byKey     = Key{Shape: ShapeText, Closed: By, Doc: "What the events have in common; without it the execution context."}
	withinKey = Key{Shape: ShapeDuration, Required: true, Doc: fmt.Sprintf("How much time there is, up to %d hours.", int(maxWithin.Hours()))}
)
