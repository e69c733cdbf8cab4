package ruleset

import "testing"

func TestHostFields(t *testing.T) {
	fields, err := HostFields()
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, f := range fields {
		types[f.Name] = f.Type.String()
	}
	if types["os.id"] != "string" || types["kernel.version.major"] != "int" || types["os.is_debian"] != "bool" {
		t.Error(types)
	}
}
