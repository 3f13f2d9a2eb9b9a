package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
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
type Template struct {
	parsed *template.Template
	name   string
	lines  []string // of the source
}

// Parse parses a template. It may call the methods of a [Source] as service, instances,
// services and nodes, and env, join, split, toLower, toUpper, replaceAll, contains, in,
// hostport, isIP, toJSON, toYAML, shellQuote, nginxQuote and haproxyQuote. Errors begin with
// name and the line. A template that cannot be parsed is an ErrInvalid.
//
// A meta key that an instance lacks is empty, and a named port is 0, so that one instance
// cannot make the whole template fail.
func Parse(name, text string) (*Template, error) {
	t, err := template.New(name).Option("missingkey=zero").Funcs(functions(context.Background(), nil)).Parse(text)
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrInvalid, "%v", err)
	}
	return &Template{t, name, strings.Split(text, "\n")}, nil
}

// Execute renders the template with the data of a source. It wraps errors of the source. The
// error of a function has the whole action that calls it, such as {{ .Meta.team | nginxQuote }}.
func (t *Template) Execute(ctx context.Context, s Source) ([]byte, error) {
	parsed, err := t.parsed.Clone()
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	var b bytes.Buffer
	if err := parsed.Funcs(functions(ctx, s)).Execute(&b, nil); err != nil {
		if action := t.actionOf(err); action != "" {
			return nil, fmt.Errorf("render: %w (in %s)", err, action)
		}
		return nil, fmt.Errorf("render: %w", err)
	}
	return b.Bytes(), nil
}

// actionOf returns the action of the template that an error is about; "" if that is not known.
// text/template names no more than the function where a value is piped to it.
func (t *Template) actionOf(err error) string {
	exec, ok := errors.AsType[template.ExecError](err)
	if !ok {
		return ""
	}
	_, at, _ := strings.Cut(exec.Error(), "template: "+t.name+":")
	var line, column int // the column counts bytes, from 0
	if _, err := fmt.Sscanf(at, "%d:%d:", &line, &column); err != nil || line < 1 || line > len(t.lines) || column > len(t.lines[line-1]) {
		return ""
	}
	text := t.lines[line-1]
	begin := strings.LastIndex(text[:column], "{{")
	end := strings.Index(text[column:], "}}")
	if begin < 0 || end < 0 {
		return ""
	}
	return text[begin : column+end+len("}}")]
}
