package render

import (
	"bytes"
	"context"
	"fmt"
	"text/template"

	"disc/discovery"
	"disc/discovery/view"
)

// Source provides the data of templates, in a fixed order.
type Source interface {
	// Service returns the endpoints of a lookup name, sorted by id; none if the name is
	// unknown.
	Service(ctx context.Context, name string) ([]discovery.Endpoint, error)
	// Instances returns all instances of a service, of any status and state, sorted by id;
	// none if the service is unknown.
	Instances(ctx context.Context, service string) ([]view.Entry, error)
	// Services returns all services, sorted by name.
	Services(ctx context.Context) ([]Service, error)
	// Nodes returns all agents, sorted by node.
	Nodes(ctx context.Context) ([]discovery.Node, error)
}

// Service is a service in a template.
type Service struct {
	Name    string         `json:"name"`
	Healthy int            `json:"healthy"` // number of instances that a plain lookup may answer with
	Total   int            `json:"total"`   // number of instances
	Tags    discovery.Tags `json:"tags"`    // of all instances, sorted
}

// Template is a parsed template.
type Template struct{ parsed *template.Template }

// Parse parses a template. It may call the methods of a [Source] as service, instances,
// services and nodes, and env, join, split, toLower, toUpper, replaceAll, contains, in,
// hostport and toJSON. Errors begin with name and the line. A template that cannot be
// parsed is an ErrInvalid.
//
// A meta key that an instance lacks is empty, and a named port is 0, so that one instance
// cannot make the whole template fail.
func Parse(name, text string) (*Template, error) {
	t, err := template.New(name).Option("missingkey=zero").Funcs(functions(context.Background(), nil)).Parse(text)
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrInvalid, "%v", err)
	}
	return &Template{t}, nil
}

// Execute renders the template with the data of a source. It wraps errors of the source.
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
