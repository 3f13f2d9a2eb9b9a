package view

import (
	"strings"

	"disc/discovery"
)

// Source says who stands behind an entry.
type Source string

// The sources.
const (
	SourceAgent  Source = "agent"  // a record under its agent's lease
	SourceStatic Source = "static" // a static entry
)

// Entry is an instance as it is shown: its record or static entry, merged with its
// override.
type Entry struct {
	discovery.Instance
	State    discovery.State     `json:"state"`
	Override *discovery.Override `json:"override,omitempty"`
	Source   Source              `json:"source"`
	Revision int64               `json:"revision"`           // etcd's, of the newest key merged here
	Shadowed *discovery.Instance `json:"shadowed,omitempty"` // the static entry that the record hides
	Suspect  bool                `json:"suspect,omitempty"`  // vanished with many others; kept until a probe fails

	// Utilization is how busy the instance says it is, see [LoadReport]; nil: it does not say.
	// It comes and goes without an event and without another revision.
	Utilization *float64 `json:"utilization,omitempty"`
}

// Record is an instance as it stands in etcd under one key.
type Record struct {
	discovery.Instance
	Created  int64 // etcd's create revision: changes with each incarnation
	Modified int64 // etcd's revision of the last write
	Lease    int64 // 0: none
}

// Healthy reports whether a plain lookup may answer with an entry.
func (e *Entry) Healthy() bool { return e.ExcludedBy(discovery.StatusHealthy) == "" }

// Endpoint shows an entry as an answer.
func (e *Entry) Endpoint() discovery.Endpoint { return e.EndpointAt("") }

// ExcludedBy returns why a status filter leaves an entry out, or nothing.
func (e *Entry) ExcludedBy(filter discovery.StatusFilter) string {
	switch {
	case e.State == discovery.Down:
		return string(discovery.Down)
	case filter == discovery.StatusAny:
		return ""
	case e.State != discovery.Up:
		return string(e.State)
	case e.Status == discovery.Critical, e.Status == discovery.Warning && filter == discovery.StatusPassing:
		return string(e.Status)
	}
	return ""
}

// EndpointAt shows an entry as an answer, at its named port if port is not empty.
func (e *Entry) EndpointAt(port string) discovery.Endpoint {
	out := discovery.Endpoint{
		ID: e.ID, Node: e.Node, Address: e.Address, Port: e.Port, Ports: e.Ports, Zone: e.Zone,
		Weight: e.Weight, Tags: e.Tags, Meta: e.Meta, Status: e.Status, Suspect: e.Suspect,
	}
	if port != "" {
		out.Port = e.NamedPort(port)
	}
	if e.State != discovery.Up {
		out.State = e.State
	}
	return out
}

// NamedPort returns the named port, spelled as asked or, where none is, the only one that
// differs in case: DNS resolvers mix the case of what they ask. 0: there is none.
func (e *Entry) NamedPort(name string) int {
	if port, ok := e.Ports[name]; ok {
		return port
	}
	found := 0
	for other, port := range e.Ports {
		if !strings.EqualFold(other, name) {
			continue
		}
		if found != 0 {
			return 0
		}
		found = port
	}
	return found
}
