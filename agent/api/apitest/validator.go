// Package apitest checks the responses of the HTTP API against its own description, for tests: a
// response that /openapi.json does not describe is an error.
//
//	v, err := apitest.NewValidator(document)
//	client := &http.Client{Transport: v.Transport(http.DefaultTransport)}
package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Validator checks responses against an OpenAPI 3.1 document. It is safe for concurrent use.
type Validator struct {
	document any
	compiler *jsonschema.Compiler
	lock     sync.Mutex // the compiler and its schemas
	schemas  map[string]*jsonschema.Schema
}

// location is the URL of the document in the compiler.
const location = "file:///openapi.json"

// NewValidator parses a document and compiles all its schemas, so that an invalid one is an
// error at once.
func NewValidator(document []byte) (*Validator, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(location, doc); err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	v := &Validator{document: doc, compiler: c, schemas: map[string]*jsonschema.Schema{}}
	for _, name := range v.root("components", "schemas").keys() {
		if _, err := v.schema(v.root("components", "schemas", name)); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Operations returns the operations of the document as "METHOD /path", sorted.
func (v *Validator) Operations() []string {
	var all []string
	for _, path := range v.root("paths").keys() {
		for _, method := range v.root("paths", path).keys() {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// Scopes returns the scopes that an operation's security names, sorted: one of them is needed.
// There are none for an operation that needs no token.
func (v *Validator) Scopes(operation string) []string {
	method, path, _ := strings.Cut(operation, " ")
	alternatives, _ := v.root("paths", path, strings.ToLower(method), "security").value.([]any)
	var names []string
	for _, alternative := range alternatives {
		for _, scopes := range alternative.(map[string]any) {
			for _, name := range scopes.([]any) {
				names = append(names, name.(string))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Parameters returns the names of an operation's query parameters, sorted.
func (v *Validator) Parameters(operation string) []string {
	method, path, _ := strings.Cut(operation, " ")
	var names []string
	for _, p := range v.root("paths", path, strings.ToLower(method), "parameters").items() {
		if p.get("in").value == "query" {
			names = append(names, p.text("name"))
		}
	}
	slices.Sort(names)
	return names
}

// Value checks JSON against a named schema of the document.
func (v *Validator) Value(schema string, b []byte) error {
	return v.validate(v.root("components", "schemas", schema), b)
}

// failed is the component that describes the response to a request that no operation matches.
const failed = "Failed"

// Response checks that the status, the headers, the media type and, for JSON, the body of a
// response are described for its request. A default describes only the failures of the server.
// It does not check a nil body.
func (v *Validator) Response(req *http.Request, resp *http.Response, body []byte) error {
	op, what := v.operation(req), fmt.Sprintf("%s %s: %d", req.Method, req.URL.Path, resp.StatusCode)
	described := op.get("responses", strconv.Itoa(resp.StatusCode))
	switch {
	case described.exists():
	case !op.exists() && resp.StatusCode >= 400:
		described = v.root("components", "responses", failed)
	case resp.StatusCode >= 500:
		described = op.get("responses", "default")
	}
	if !described.exists() {
		return fmt.Errorf("%s: the description does not have that", what)
	}
	if err := v.headers(described.get("headers"), resp.Header); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := v.content(described.get("content"), req, resp, body); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// fields has the fields of a path item of OpenAPI 3.1 by their method. A method's case counts, RFC
// 9110, section 9.1; who answers GET answers HEAD.
var fields = map[string]string{
	http.MethodGet:     "get",
	http.MethodHead:    "get",
	http.MethodPut:     "put",
	http.MethodPost:    "post",
	http.MethodDelete:  "delete",
	http.MethodOptions: "options",
	http.MethodPatch:   "patch",
	http.MethodTrace:   "trace",
}

// operation returns the description of a request's route; not every request has one.
func (v *Validator) operation(req *http.Request) node {
	method, ok := fields[req.Method]
	if !ok {
		return node{}
	}
	asked := strings.Split(req.URL.EscapedPath(), "/")
	for _, path := range v.root("paths").keys() {
		parts, of := strings.Split(path, "/"), asked
		if last := len(parts); len(asked) > last && v.TakesSlashes(path) {
			of = append(slices.Clone(asked[:last-1]), strings.Join(asked[last-1:], "/")) // as one
		}
		same := slices.EqualFunc(parts, of, func(pattern, part string) bool {
			return pattern == part || strings.HasPrefix(pattern, "{") && part != ""
		})
		if same {
			return v.root("paths", path, method)
		}
	}
	return node{}
}

// TakesSlashes reports whether a path ends in a parameter that may have slashes, which OpenAPI has
// no word for: x-slashes.
func (v *Validator) TakesSlashes(path string) bool {
	if !strings.HasSuffix(path, "}") {
		return false
	}
	item := v.root("paths", path)
	for _, method := range item.keys() {
		for _, p := range item.get(method, "parameters").items() {
			if p.flag("x-slashes") {
				return true
			}
		}
	}
	return false
}

func (v *Validator) headers(described node, h http.Header) error {
	for _, name := range described.keys() {
		d := described.get(name)
		got := h.Values(name)
		if len(got) == 0 {
			if d.flag("required") {
				return fmt.Errorf("header %s is missing", name)
			}
			continue
		}
		b := []byte(got[0])
		if kind := d.get("schema", "type").value; kind != "integer" && kind != "number" {
			b, _ = json.Marshal(got[0]) // a string always can be
		}
		if err := v.validate(d.get("schema"), b); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}
	for name := range h {
		if strings.HasPrefix(name, "Disc-") && !slices.Contains(described.keys(), name) {
			return fmt.Errorf("header %s is not described", name)
		}
	}
	return nil
}

func (v *Validator) content(described node, req *http.Request, resp *http.Response, body []byte) error {
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if !described.exists() {
		if len(body) > 0 || err == nil {
			return fmt.Errorf("a body of %q is not described", resp.Header.Get("Content-Type"))
		}
		return nil
	}
	if !described.get(media).exists() {
		return fmt.Errorf("media type %q is not described", resp.Header.Get("Content-Type"))
	}
	if body == nil || req.Method == http.MethodHead || !isJSON(media) {
		return nil
	}
	return v.validate(described.get(media, "schema"), body)
}

func isJSON(media string) bool {
	return media == "application/json" || strings.HasSuffix(media, "+json")
}

func (v *Validator) validate(schema node, b []byte) error {
	compiled, err := v.schema(schema)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("%.200q is no JSON: %w", b, err)
	}
	if err := compiled.Validate(value); err != nil {
		return fmt.Errorf("%.2000s: %w", b, err)
	}
	return nil
}

func (v *Validator) schema(at node) (*jsonschema.Schema, error) {
	v.lock.Lock()
	defer v.lock.Unlock()
	if s, ok := v.schemas[at.pointer]; ok {
		return s, nil
	}
	s, err := v.compiler.Compile(location + "#" + at.pointer)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", at.pointer, err)
	}
	v.schemas[at.pointer] = s
	return s, nil
}
