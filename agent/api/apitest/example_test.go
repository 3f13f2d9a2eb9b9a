package apitest

import (
	"fmt"
	"strings"
	"testing"
)

// operation is a description of one operation, with its parameters, body and responses.
const operation = `{"paths": {"/v1/{a}/things": {"put": {"operationId": "put", "parameters": [%s], "requestBody": %s, "responses": %s}}}}`

func example(t *testing.T, parameters, body, responses string) (*Example, error) {
	t.Helper()
	v, err := NewValidator(fmt.Appendf(nil, operation, parameters, body, responses))
	if err != nil {
		t.Fatal(err)
	}
	all, err := v.Examples()
	return all["put"], err
}

const (
	pathParameter  = `{"name": "a", "in": "path", "required": true, "schema": {"type": "string"}, "example": "x/y"}`
	queryParameter = `{"name": "tag", "in": "query", "schema": {"type": "array"}, "example": ["v1", "a b"]}`
	silent         = `{"name": "all", "in": "query", "schema": {"type": "boolean"}}`
	body           = `{"content": {"application/json": {"schema": {"type": "object"}, "example": {"n": 1, "s": "<"}}}}`
	created        = `"201": {"content": {"application/json": {"schema": {"type": "object"}, "example": {"id": 7}}}}`
)

func TestExample(t *testing.T) {
	got, err := example(t, pathParameter+","+queryParameter+","+silent, body, `{"200": {}, `+created+`, "202": {}, "404": {}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got.Method != "PUT" || got.Target() != "/v1/x%2Fy/things?tag=v1&tag=a+b" || got.Media != "application/json" || got.Body != `{"n":1,"s":"<"}` {
		t.Errorf("request %+v", got)
	}
	if got.Status != 201 || got.Accept != "application/json" || fmt.Sprint(got.Answer) != "map[id:7]" {
		t.Errorf("answer %+v", got)
	}
}

func TestExampleWithoutABody(t *testing.T) {
	for responses, want := range map[string]int{`{"200": {}, "202": {}}`: 200, `{"202": {}, "204": {}}`: 204} {
		got, err := example(t, pathParameter, body, responses)
		if err != nil || got.Status != want || got.Accept != "" {
			t.Errorf("%s: %+v, %v; want %d", responses, got, err, want)
		}
	}
	got, err := example(t, pathParameter, body, `{"200": {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}}`)
	if err != nil || got.Status != 200 || got.Accept != "image/png" || got.Answer != nil {
		t.Errorf("%+v, %v; want an answer in binary", got, err)
	}
}

func TestMissingAndWrongExamples(t *testing.T) {
	for name, c := range map[string]struct{ parameters, body, responses, want string }{
		"no value of a path parameter": {strings.Replace(pathParameter, `, "example": "x/y"`, "", 1), body, "{" + created + "}", "parameter a"},
		"wrong value of a parameter":   {strings.Replace(pathParameter, `"x/y"`, "5", 1), body, "{" + created + "}", "parameter a"},
		"no body":                      {pathParameter, `{"content": {"application/json": {"schema": {"type": "object"}}}}`, "{" + created + "}", "the body has no example"},
		"wrong body":                   {pathParameter, strings.Replace(body, `{"n": 1, "s": "<"}`, "[]", 1), "{" + created + "}", "body"},
		"no answer":                    {pathParameter, body, `{"200": {"content": {"application/json": {"schema": {"type": "object"}}}}}`, "no answer"},
		"wrong answer":                 {pathParameter, body, "{" + strings.Replace(created, `{"id": 7}`, "[]", 1) + "}", "status 201"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := example(t, c.parameters, c.body, c.responses); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestBinary(t *testing.T) {
	if got := Binary("\u0000a\u00c0"); string(got) != "\x00a\xc0" {
		t.Errorf("%q", got)
	}
}
