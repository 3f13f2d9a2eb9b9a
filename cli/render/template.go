package render

import (
	"bytes"
	"context"
	"fmt"
	"text/template"

	"disc/discovery"
	"disc/discovery/view"
)

// Source answers what templates ask. Its answers are in a fixed order.
type Source interface {
	// Service returns the endpoints of a lookup name, sorted by id; none when nothing is
	// known of it.
	Service(ctx context.Context, name string) ([]discovery.Endpoint, error)
	// Instances returns all instances of a service, sorted by id, whatever their status
	// and state; none when nothing is known of it.
	Instances(ctx context.Context, service string) ([]view.Entry, error)
	// Services returns all services, sorted by name.
	Services(ctx context.Context) ([]Service, error)
	// Nodes returns all agents, sorted by node.
	Nodes(ctx context.Context) ([]discovery.Node, error)
}

// Service is a service as templates list them.
type Service struct {
	Name    string         `json:"name"`
	Healthy int            `json:"healthy"` // instances that a plain lookup may answer with
	Total   int            `json:"total"`   // instances that are shown
	Tags    discovery.Tags `json:"tags"`    // of all instances, sorted
}

// Template is a parsed template.
type Template struct{ parsed *template.Template }

// Parse parses a template, which may call what a [Source] answers as service, instances,
// services and nodes, and env, join, split, toLower, toUpper, replaceAll, contains, in,
// hostport and toJSON. name is for errors, which tell the line. A template that cannot
// be parsed is an ErrInvalid.
//
// A meta key or named port that an instance does not have is empty, or 0: what one
// instance lacks keeps no file from following the others.
func Parse(name, text string) (*Template, error) {
	t, err := template.New(name).Option("missingkey=zero").Funcs(functions(context.Background(), nil)).Parse(text)
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
