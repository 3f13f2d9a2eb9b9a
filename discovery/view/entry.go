package view

import (
	"strings"

	"disc/discovery"
)

// Source is the origin of an entry.
type Source string

// The sources.
const (
	SourceAgent  Source = "agent"  // a record, under the lease of its agent
	SourceStatic Source = "static" // a static entry, made by an operator
)

// Entry is an instance as readers see it: its record or static entry, merged with its
// override.
type Entry struct {
	discovery.Instance
	State    discovery.State     `json:"state"`
	Override *discovery.Override `json:"override,omitempty"`
	Source   Source              `json:"source"`
	Revision int64               `json:"revision"`           // etcd's, of the newest key merged here
	Shadowed *discovery.Instance `json:"shadowed,omitempty"` // the static entry that the record hides
	Suspect  bool                `json:"suspect,omitempty"`  // its record is gone, with many others; shown until a probe fails

	// Utilization is the instance's load, see [discovery.LoadReport]; nil: not reported. It
	// changes without an event and without a new revision.
	Utilization *float64 `json:"utilization,omitempty"`
}

// Record is an instance as etcd stores it under one key.
type Record struct {
	discovery.Instance
	Created  int64 // etcd's create revision: another for each incarnation
	Modified int64 // etcd's revision of the last write
	Lease    int64 // 0: none
}

// Healthy reports whether a lookup with [discovery.StatusHealthy] answers with the entry.
func (e *Entry) Healthy() bool { return e.ExcludedBy(discovery.StatusHealthy) == "" }

// Endpoint returns the entry as an endpoint at its main port.
func (e *Entry) Endpoint() discovery.Endpoint { return e.EndpointAt("") }

// ExcludedBy returns the state or status for which a filter excludes the entry; empty: it
// does not.
func (e *Entry) ExcludedBy(filter discovery.StatusFilter) string {
	switch {
	case e.State == discovery.Down:
		return string(discovery.Down)
	case filter == discovery.StatusAny:
		return ""
	case e.State != discovery.Up:
		return string(e.State)
	case filter == discovery.StatusHealthy && e.Status != discovery.Critical, string(e.Status) == string(filter):
		return ""
	}
	return string(e.Status)
}

// EndpointAt returns the entry as an endpoint at its named port; at its main port if port
// is empty.
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

// NamedPort returns the port of a name or, if there is none, of the only name that equals
// it without regard to case, since DNS resolvers mix the case of names. 0: there is none.
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
