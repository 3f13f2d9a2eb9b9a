package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"disc/agent/api"
)

// TestDescriptionSuitsGenerators checks what generators of clients need besides a valid description.
func TestDescriptionSuitsGenerators(t *testing.T) {
	var d struct {
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Components map[string]map[string]any            `json:"components"`
	}
	if err := json.Unmarshal(openAPI, &d); err != nil {
		t.Fatal(err)
	}
	t.Run("names", func(t *testing.T) { wantDistinctNames(t, d.Components) })
	t.Run("types", func(t *testing.T) { wantTypes(t, d.Components, d.Paths) })
	for path, methods := range d.Paths {
		for method, operation := range methods {
			t.Run(method+path, func(t *testing.T) {
				wantPathParameters(t, path, operation, d.Components["parameters"])
				for _, status := range callersFaults(path, method, operation) {
					if operation["responses"].(map[string]any)[status] == nil {
						t.Errorf("status %s is not described", status)
					}
				}
			})
		}
	}
}

// wantDistinctNames checks that components of several kinds have different names: generators make
// types of schemas, parameters and responses alike.
func wantDistinctNames(t *testing.T, components map[string]map[string]any) {
	t.Helper()
	users := map[string]string{}
	for _, kind := range []string{"schemas", "parameters", "responses"} {
		for name := range components[kind] {
			typeName := strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
			if other := users[typeName]; other != "" {
				t.Errorf("%s/%s has the name of %s", kind, name, other)
			}
			users[typeName] = kind + "/" + name
		}
	}
}

// wantTypes checks that each schema says its type: others become interface{} in Go.
func wantTypes(t *testing.T, components map[string]map[string]any, paths map[string]map[string]map[string]any) {
	t.Helper()
	check := func(at string, schema map[string]any) {
		for _, key := range []string{"type", "$ref", "allOf", "oneOf"} {
			if schema[key] != nil {
				return
			}
		}
		if at != "/Agent/properties/settings/items/properties/value" { // any value
			t.Errorf("schema %s has no type", at)
		}
	}
	var walk func(at string, value any)
	walk = func(at string, value any) {
		switch value := value.(type) {
		case []any:
			for i, v := range value {
				walk(fmt.Sprintf("%s/%d", at, i), v)
			}
		case map[string]any:
			for key, v := range value {
				schema, isSchema := v.(map[string]any)
				switch {
				case key == "example" || key == "x-events":
					continue
				case isSchema && (key == "schema" || key == "items" || key == "additionalProperties" || strings.HasSuffix(at, "/properties")):
					check(at+"/"+key, schema)
				}
				walk(at+"/"+key, v)
			}
		}
	}
	for name, schema := range components["schemas"] {
		check("/"+name, schema.(map[string]any))
		walk("/"+name, schema)
	}
	for _, kind := range []string{"parameters", "responses", "headers"} {
		walk("/"+kind, components[kind])
	}
	for path, methods := range paths {
		for method, operation := range methods {
			walk(path+" "+method, operation)
		}
	}
}

var templateName = regexp.MustCompile(`\{([^}]*)\}`)

// wantPathParameters checks that the templates of a path are plain names, each of a parameter.
func wantPathParameters(t *testing.T, path string, operation, components map[string]any) {
	t.Helper()
	var named, described []string
	for _, m := range templateName.FindAllStringSubmatch(path, -1) {
		named = append(named, m[1])
	}
	parameters, _ := operation["parameters"].([]any)
	for _, p := range parameters {
		parameter := p.(map[string]any)
		if ref, ok := parameter["$ref"].(string); ok {
			parameter = components[strings.TrimPrefix(ref, "#/components/parameters/")].(map[string]any)
		}
		if parameter["in"] == "path" {
			described = append(described, parameter["name"].(string))
		}
	}
	if !slices.Equal(slices.Sorted(slices.Values(named)), slices.Sorted(slices.Values(described))) {
		t.Errorf("the path has %v, and its parameters are %v", named, described)
	}
}

// callersFaults returns the statuses that an operation can answer by its form.
func callersFaults(path, method string, operation map[string]any) []string {
	statuses := map[string]bool{"400": true, "403": true, "421": true}
	if security, _ := operation["security"].([]any); len(security) > 0 {
		statuses["401"] = true
	}
	if operation["requestBody"] != nil {
		statuses["413"] = true
	}
	if method == "get" && strings.Contains(path, "{") {
		statuses["404"] = true
	}
	return slices.Sorted(maps.Keys(statuses))
}

// writtenKV has the values that were written.
type writtenKV struct {
	KV
	values map[string]string
}

func (k writtenKV) Write(_ context.Context, ops ...api.KVOp) (int64, error) {
	for _, op := range ops {
		k.values[op.Key] = string(op.Value)
	}
	return 1, nil
}

func TestKeysHaveSlashesEitherWay(t *testing.T) {
	f := newFleet()
	keys := map[string]string{}
	s := serve(t, f.api(t, Options{}, func(b *Backends) { b.KV = writtenKV{b.KV, keys} }))
	s.want("PUT /v1/kv/db/primary", "1", 200)
	s.want("PUT /v1/kv/db%2Freplica", "2", 200)
	s.want("PUT /v1/kv/db%2Fa%25%20b", "3", 200)
	if want := map[string]string{"db/primary": "1", "db/replica": "2", "db/a% b": "3"}; !maps.Equal(keys, want) {
		t.Errorf("keys %v, want %v", keys, want)
	}
	for _, key := range []string{"db%2F%2Fa", "db/%2Fa", "db%2F..%2Fa", "%2Fdb"} {
		s.want("PUT /v1/kv/"+key, "1", 400, "empty segment")
	}
}
