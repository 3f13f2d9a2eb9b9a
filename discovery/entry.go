package discovery

import "strings"

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
	Instance
	State    State     `json:"state"`
	Override *Override `json:"override,omitempty"`
	Source   Source    `json:"source"`
	Revision int64     `json:"revision"`           // etcd's, of the newest key merged here
	Shadowed *Instance `json:"shadowed,omitempty"` // the static entry that the record hides
	Suspect  bool      `json:"suspect,omitempty"`  // vanished with many others; kept until a probe fails

	// Utilization is how busy the instance says it is, see [Load]; nil: it does not say.
	// It comes and goes without an event and without another revision.
	Utilization *float64 `json:"utilization,omitempty"`
}

// Record is an instance as it stands in etcd under one key.
type Record struct {
	Instance
	Created  int64 // etcd's create revision: changes with each incarnation
	Modified int64 // etcd's revision of the last write
	Lease    int64 // 0: none
}

// Healthy reports whether a plain lookup may answer with an entry.
func (e *Entry) Healthy() bool { return e.unfit(StatusHealthy) == "" }

// Endpoint shows an entry as an answer.
func (e *Entry) Endpoint() Endpoint { return e.endpoint("") }

// unfit returns why a status filter leaves an entry out, or nothing.
func (e *Entry) unfit(filter StatusFilter) string {
	switch {
	case e.State == Down:
		return string(Down)
	case filter == StatusAny:
		return ""
	case e.State != Up:
		return string(e.State)
	case e.Status == Critical, e.Status == Warning && filter == StatusPassing:
		return string(e.Status)
	}
	return ""
}

// endpoint shows an entry as an answer, at its named port if port is not empty.
func (e *Entry) endpoint(port string) Endpoint {
	out := Endpoint{
		ID: e.ID, Node: e.Node, Address: e.Address, Port: e.Port, Ports: e.Ports, Zone: e.Zone,
		Weight: e.Weight, Tags: e.Tags, Meta: e.Meta, Status: e.Status, Suspect: e.Suspect,
	}
	if port != "" {
		out.Port = e.port(port)
	}
	if e.State != Up {
		out.State = e.State
	}
	return out
}

// port returns the named port, spelled as asked or, where none is, the only one that
// differs in case: DNS resolvers mix the case of what they ask. 0: there is none.
func (e *Entry) port(name string) int {
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
