package apitest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

const description = `{
  "openapi": "3.1.1",
  "paths": {
    "/v1/things/{thing}": {
      "get": {
        "parameters": [
          {"$ref": "#/components/parameters/index"},
          {"name": "thing", "in": "path"},
          {"name": "all", "in": "query"}
        ],
        "responses": {
          "200": {
            "headers": {"Disc-Revision": {"$ref": "#/components/headers/Revision"}},
            "content": {
              "application/json": {"schema": {"$ref": "#/components/schemas/Thing"}},
              "text/plain": {"schema": {"type": "string"}}
            }
          },
          "204": {"description": "Nothing."},
          "404": {"$ref": "#/components/responses/Failed"},
          "default": {"$ref": "#/components/responses/Failed"}
        }
      }
    },
    "/v1/keys/{key}": {
      "get": {
        "parameters": [{"name": "key", "in": "path", "x-slashes": true}],
        "responses": {"204": {"description": "Nothing."}}
      }
    }
  },
  "components": {
    "parameters": {"index": {"name": "index", "in": "query"}},
    "headers": {"Revision": {"required": true, "schema": {"type": "integer"}}},
    "responses": {"Failed": {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}},
    "schemas": {
      "Thing": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": false},
      "Problem": {"type": "object", "required": ["status"]}
    }
  }
}`

func validator(t *testing.T) *Validator {
	t.Helper()
	v, err := NewValidator([]byte(description))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestResponse(t *testing.T) {
	v := validator(t)
	const (
		json, problem = "application/json", "application/problem+json"
		thing         = "GET /v1/things/a%2Fb"
	)
	for _, c := range []struct {
		request  string
		status   int
		media    string
		revision string
		body     string
		wrong    string // empty: as described
	}{
		{thing, 200, json, "7", `{"id":"a"}`, ""},
		{"HEAD /v1/things/a", 200, json, "7", ``, ""},
		{thing, 200, "text/plain; charset=utf-8", "7", "a", ""},
		{thing, 204, "", "", ``, ""},
		{"GET /v1/keys/a/b", 204, "", "", ``, ""},
		{"GET /v1/keys/a%2Fb/c", 204, "", "", ``, ""},
		{"GET /v1/things/a/b", 204, "", "", ``, "does not have that"},
		{thing, 404, problem, "", `{"status":404}`, ""},
		{thing, 503, problem, "", `{"status":503}`, ""},
		{thing, 409, problem, "", `{"status":409}`, "does not have that"},
		{"GET /nosuch", 404, problem, "", `{"status":404}`, ""},
		{"POST /v1/things/a", 405, problem, "", `{"status":405}`, ""},
		{"get /v1/things/a", 405, problem, "", `{"status":405}`, ""},
		{thing, 200, json, "7", `{"id":"a","size":1}`, "size"},
		{thing, 200, json, "7", `{}`, "id"},
		{thing, 200, json, "7", `{"id":"a"`, "no JSON"},
		{thing, 200, json, "", `{"id":"a"}`, "header Disc-Revision is missing"},
		{thing, 200, json, "x", `{"id":"a"}`, "header Disc-Revision"},
		{thing, 200, "text/html", "7", `a`, "media type"},
		{thing, 201, json, "7", `{"id":"a"}`, "does not have that"},
		{thing, 204, json, "", `{"id":"a"}`, "is not described"},
		{thing, 204, "", "7", ``, "header Disc-Revision is not described"},
		{thing, 404, json, "", `{"status":404}`, "media type"},
		{thing, 404, problem, "", `{}`, "status"},
		{"GET /nosuch", 200, json, "", `{}`, "does not have that"},
	} {
		t.Run(c.request+" "+c.wrong, func(t *testing.T) {
			method, path, _ := strings.Cut(c.request, " ")
			resp := &http.Response{StatusCode: c.status, Header: http.Header{}}
			if c.media != "" {
				resp.Header.Set("Content-Type", c.media)
			}
			if c.revision != "" {
				resp.Header.Set("Disc-Revision", c.revision)
			}
			err := v.Response(httptest.NewRequest(method, path, nil), resp, []byte(c.body))
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s %d %s %q: %v, want %q", c.request, c.status, c.media, c.body, err, c.wrong)
			}
		})
	}
}

func TestOperationsAndParameters(t *testing.T) {
	v := validator(t)
	operations := v.Operations()
	if !slices.Equal(operations, []string{"GET /v1/keys/{key}", "GET /v1/things/{thing}"}) {
		t.Fatalf("operations %v", operations)
	}
	if got := v.Parameters(operations[1]); !slices.Equal(got, []string{"all", "index"}) {
		t.Errorf("parameters %v", got)
	}
}

func TestTransportFailsForWhatIsNotDescribed(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Disc-Revision", "1")
		_, _ = io.WriteString(w, `{"id":"`+strings.TrimPrefix(r.URL.Path, "/v1/things/")+`"}`)
	}))
	defer s.Close()
	client := &http.Client{Transport: validator(t).Transport(http.DefaultTransport)}
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.URL + "/v1/things/a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(b) != `{"id":"a"}` {
		t.Errorf("body %q, %v", b, err)
	}
	if resp, err = client.Get(s.URL + "/nosuch"); err == nil {
		resp.Body.Close()
		t.Error("an answer that is not described came through")
	}
}

func TestBrokenDescriptions(t *testing.T) {
	for _, d := range []string{"", "{", `{"components":{"schemas":{"A":{"type":"nosuch"}}}}`, `{"components":{"schemas":{"A":{"$ref":"#/nosuch"}}}}`} {
		if _, err := NewValidator([]byte(d)); err == nil {
			t.Errorf("%q was taken", d)
		}
	}
}
