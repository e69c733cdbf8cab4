// Package policyschema writes the JSON Schema (draft 2020-12) of policy files
// and of rules in folders of their own. It is made from the tables of the
// reader of policies, so that the two know the same keys.
package policyschema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
)

// ID names the schema.
const ID = "urn:clewsec:clew:policy"

type object = map[string]any

// JSON returns the schema as a document.
func JSON() ([]byte, error) {
	defs := object{
		"text":       object{"description": "A text.", "type": []string{"string", "number", "boolean"}},
		"expression": object{"description": "A text in SECL.", "type": "string", "minLength": 1},
		"duration": object{
			"description": "A duration such as 10s, 5m or 2h, or nanoseconds.",
			"anyOf": []object{
				{"type": "integer", "minimum": 0},
				{"type": "string", "pattern": `^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)([0-9.]+(ns|us|µs|μs|ms|s|m|h))*$|^[0-9]+$`},
			},
		},
		"literal": object{
			"description": "An integer, a boolean, a text, or a list.",
			"anyOf": []object{
				{"type": []string{"integer", "boolean", "string", "number"}},
				{"type": "array", "items": object{"type": []string{"integer", "string", "number"}}},
			},
		},
	}
	for _, name := range ruleset.ObjectNames() {
		defs[ref(name)] = mapping(name)
	}
	doc := object{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"$id":         ID,
		"title":       "clew policies and rules",
		"description": "A policy file (*.policy), which has rules and macros, or a rule in a folder of its own (rule.yaml).",
		"type":        "object",
		"if":          object{"anyOf": []object{{"required": []string{"rules"}}, {"required": []string{"macros"}}, {"required": []string{"watch"}, "properties": object{"watch": object{"type": "array"}}}}},
		"then":        pointer(ruleset.PolicyFile),
		"else":        pointer(ruleset.RuleFile),
		"$defs":       defs,
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("write schema of policies: %w", err)
	}
	return b.Bytes(), nil
}

// ref is the name of a mapping in the schema: rule_file.
func ref(name string) string { return strings.ReplaceAll(name, " ", "_") }

func pointer(name string) object { return object{"$ref": "#/$defs/" + ref(name)} }

func mapping(name string) object {
	properties, required := object{}, []string{}
	for _, k := range ruleset.Keys(name) {
		properties[k.Name] = property(k)
		if k.Required {
			required = append(required, k.Name)
		}
	}
	m := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		m["required"] = required
	}
	switch name {
	case "action":
		// Exactly one thing is done.
		var one []object
		for _, k := range ruleset.Keys(name) {
			if k.Name != "filter" {
				one = append(one, object{"required": []string{k.Name}})
			}
		}
		m["oneOf"] = one
	case "macro":
		m["oneOf"] = []object{{"required": []string{"expression"}}, {"required": []string{"values"}}}
	case "set":
		m["oneOf"] = []object{{"required": []string{"value"}}, {"required": []string{"field"}}, {"required": []string{"expression"}}}
	}
	return m
}

func property(k ruleset.Key) object {
	p := object{}
	list := func(item object) { p["type"], p["items"] = "array", item }
	switch k.Shape {
	case ruleset.ShapeText:
		p = text(k)
	case ruleset.ShapeTexts:
		list(text(k))
	case ruleset.ShapeExpression, ruleset.ShapeValue:
		p = pointer("expression")
	case ruleset.ShapeExpressions, ruleset.ShapeValues, ruleset.ShapeFilters:
		list(pointer("expression"))
	case ruleset.ShapeYes:
		p["type"] = "boolean"
	case ruleset.ShapeInteger:
		p["type"] = "integer"
	case ruleset.ShapeDuration:
		p = pointer("duration")
	case ruleset.ShapeObject:
		p = pointer(k.Object)
		if k.Object == "hash" {
			// It does without any key.
			p = object{"anyOf": []object{pointer(k.Object), {"type": "null"}}}
		}
	case ruleset.ShapeObjects:
		list(pointer(k.Object))
	case ruleset.ShapePairs:
		p["type"], p["additionalProperties"] = "object", pointer("text")
	default:
		p = pointer("literal")
	}
	if k.Doc != "" {
		p["description"] = k.Doc
	}
	return p
}

func text(k ruleset.Key) object {
	switch {
	case k.Closed != nil:
		return object{"enum": k.Closed}
	case k.Pattern != "":
		return object{"type": []string{"string", "integer"}, "pattern": k.Pattern}
	}
	return pointer("text")
}
