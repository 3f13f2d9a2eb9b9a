package render

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/template"

	"disc/discovery"
)

// Source answers what templates ask. Its answers are in a fixed order.
type Source interface {
	// Service returns the endpoints of a lookup name, sorted by id; none when nothing is
	// known of it.
	Service(ctx context.Context, name string) ([]discovery.Endpoint, error)
	// Instances returns all instances of a service, sorted by id, whatever their status
	// and state; none when nothing is known of it.
	Instances(ctx context.Context, service string) ([]discovery.Entry, error)
	// Services returns the names of all services, sorted.
	Services(ctx context.Context) ([]string, error)
	// Nodes returns all agents, sorted by node.
	Nodes(ctx context.Context) ([]discovery.Node, error)
}

// Template is a parsed template.
type Template struct{ parsed *template.Template }

// Parse parses a template. name is for errors, which tell the line.
func Parse(name, text string) (*Template, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(functions(context.Background(), nil)).Parse(text)
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrInvalid, "%v", err)
	}
	return &Template{t}, nil
}

// Execute renders the template from what a source answers. An error of the source is
// wrapped.
func (t *Template) Execute(ctx context.Context, s Source) ([]byte, error) {
	parsed, err := t.parsed.Clone()
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	var b bytes.Buffer
	if err := parsed.Funcs(functions(ctx, s)).Execute(&b, nil); err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	return b.Bytes(), nil
}

// functions are what templates may call. Arguments are in the order of consul-template:
// what is piped in comes last.
func functions(ctx context.Context, s Source) template.FuncMap {
	return template.FuncMap{
		"service":    func(name string) ([]discovery.Endpoint, error) { return s.Service(ctx, name) },
		"instances":  func(service string) ([]discovery.Entry, error) { return s.Instances(ctx, service) },
		"services":   func() ([]string, error) { return s.Services(ctx) },
		"nodes":      func() ([]discovery.Node, error) { return s.Nodes(ctx) },
		"env":        os.Getenv,
		"join":       func(separator string, list []string) string { return strings.Join(list, separator) },
		"split":      func(separator, text string) []string { return strings.Split(text, separator) },
		"toLower":    strings.ToLower,
		"toUpper":    strings.ToUpper,
		"replaceAll": func(old, new, text string) string { return strings.ReplaceAll(text, old, new) },
		"contains":   func(part, text string) bool { return strings.Contains(text, part) },
		"in":         func(list []string, item string) bool { return slices.Contains(list, item) },
		"toJSON":     toJSON,
	}
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
