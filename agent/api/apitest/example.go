package apitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Example is the example of an operation: a request, and the answer to it.
type Example struct {
	Operation   string // its operationId
	Method      string
	Path        string     // with the values of its parameters, escaped
	Query       url.Values // none: nil
	Media, Body string     // of the request; none: ""

	Status int
	Accept string // the media type of the answer; none: ""
	Answer any    // as JSON is decoded; a string for other media types; nil: none is described
}

// Target returns the path of the request with its query.
func (e *Example) Target() string {
	if len(e.Query) == 0 {
		return e.Path
	}
	return e.Path + "?" + e.Query.Encode()
}

// Examples returns the examples of all operations, by operationId. The request is made of the
// parameters that have an example, and of the body's. The answer is the success that has an
// example. It is an error when a required parameter, a body, or an answer in JSON or text lacks
// one, or when one does not fit its schema.
func (v *Validator) Examples() (map[string]*Example, error) {
	all := map[string]*Example{}
	for _, path := range v.root("paths").keys() {
		for _, method := range v.root("paths", path).keys() {
			op := v.root("paths", path, method)
			e, err := v.example(op, path)
			if err != nil {
				return nil, fmt.Errorf("operation %s: %w", op.text("operationId"), err)
			}
			e.Method = strings.ToUpper(method)
			all[e.Operation] = e
		}
	}
	return all, nil
}

func (v *Validator) example(op node, path string) (*Example, error) {
	e := &Example{Operation: op.text("operationId"), Path: path}
	for _, p := range op.get("parameters").items() {
		if err := v.addParameter(e, p); err != nil {
			return nil, fmt.Errorf("parameter %s: %w", p.text("name"), err)
		}
	}
	if body := op.get("requestBody"); body.exists() {
		media, value, err := v.sole(body.get("content"))
		if err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
		if value == nil {
			return nil, errors.New("the body has no example")
		}
		e.Media, e.Body = media, encoded(value)
	}
	return e, v.addAnswer(e, op.get("responses"))
}

// addParameter adds the example of a parameter, if it has one, to the request.
func (v *Validator) addParameter(e *Example, p node) error {
	value := p.get("example").value
	if value == nil {
		if p.flag("required") {
			return errors.New("it is required and has no example")
		}
		return nil
	}
	if err := v.fits(p.get("schema"), value); err != nil {
		return err
	}
	name := p.text("name")
	switch p.text("in") {
	case "path":
		e.Path = strings.ReplaceAll(e.Path, "{"+name+"}", url.PathEscape(encoded(value)))
	case "query":
		if e.Query == nil {
			e.Query = url.Values{}
		}
		values, several := value.([]any)
		if !several {
			values = []any{value}
		}
		for _, one := range values {
			e.Query.Add(name, encoded(one))
		}
	}
	return nil
}

// addAnswer adds the answer with an example; if none has one, the first without a body or with a
// binary one. A 204 comes before others.
func (v *Validator) addAnswer(e *Example, responses node) error {
	for _, status := range responses.keys() {
		if status >= "3" {
			break
		}
		content := responses.get(status, "content")
		media, value, err := v.sole(content)
		if err != nil {
			return fmt.Errorf("status %s: %w", status, err)
		}
		lacks := content.exists() && value == nil && content.get(media, "schema", "format").value != "binary"
		if lacks || e.Status > 0 && status != "204" && (value == nil || e.Answer != nil) {
			continue
		}
		if e.Status, err = strconv.Atoi(status); err != nil {
			return err
		}
		e.Accept, e.Answer = media, value
	}
	if e.Status == 0 {
		return errors.New("no answer has an example")
	}
	return nil
}

// sole returns the media type with an example, and the example; if none has one, the first.
func (v *Validator) sole(content node) (media string, value any, err error) {
	for _, m := range content.keys() {
		example := content.get(m, "example").value
		if example == nil {
			continue
		}
		if err := v.fits(content.get(m, "schema"), example); err != nil {
			return "", nil, fmt.Errorf("%s: %w", m, err)
		}
		if value == nil {
			media, value = m, example
		}
	}
	if keys := content.keys(); value == nil && len(keys) > 0 {
		media = keys[0]
	}
	return media, value, nil
}

func (v *Validator) fits(schema node, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return v.validate(schema, b)
}

// encoded returns a value as a body or a parameter: a string as it is, others as JSON.
func encoded(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(value) // it was decoded from JSON
	return strings.TrimSuffix(b.String(), "\n")
}

// Binary returns the bytes of an example in binary: each character is a byte.
func Binary(example string) []byte {
	b := make([]byte, 0, len(example))
	for _, c := range example {
		b = append(b, byte(c))
	}
	return b
}
