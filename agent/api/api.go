// Package api holds the wire types of the agent's HTTP API and its Go client.
//
// The types that the API shares with etcd and with the other protocols are those of package
// discovery and below: a registration is a [discovery.Registration], an instance a [view.Entry],
// the answer to a lookup a [lookup.Answer]. The agent serves the API's description (OpenAPI)
// at /openapi.json.
//
// # Usage
//
//	agent, err := api.NewClient("http://127.0.0.1:3472")
//	answer, fresh, err := agent.Lookup(ctx, "web", api.LookupOptions{Tags: []string{"v2"}})
//
// To wait for the next change, pass the index of the last answer:
//
//	answer, fresh, err = agent.Lookup(ctx, "web", api.LookupOptions{Wait: api.Wait{Index: fresh.Index, For: time.Minute}})
//
// Errors have the kinds of package discovery, so that errors.Is(err, discovery.ErrNotFound)
// holds for a 404. A method whose agent does not answer returns a [discovery.ErrUnavailable]; the
// error that an agent answers is a [*Problem].
package api

import (
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// DefaultAddress is the address that an agent listens on by default (3472 spells DISC on a
// telephone).
const DefaultAddress = "127.0.0.1:3472"

// The headers of the API.
const (
	HeaderRevision = "Disc-Revision" // etcd's revision of the view, or of the write
	HeaderIndex    = "Disc-Index"    // for ?index= of the next query
	HeaderAge      = "Disc-Age"      // seconds since etcd confirmed the view, with decimals
	HeaderStale    = "Disc-Stale"    // "true", or absent
	HeaderFence    = "Disc-Fence"    // fencing token of a lock or a claim
	HeaderWarning  = "Disc-Warning"  // what the caller of a successful request may not expect
	HeaderHolder   = "Disc-Holder"   // of a request: names its caller, who may hold instances
	HeaderLost     = "Disc-Lost"     // trailer of an open request: why its registration is lost
)

// Limits of blocking queries.
const (
	DefaultWait = time.Minute      // for ?index= without ?wait=
	MaxWait     = 10 * time.Minute // a longer ?wait= is refused
)

// StreamKeepalive is the interval at which the agent sends a sign of life on an open request: a
// watch, a held registration, lock or claim.
const StreamKeepalive = 15 * time.Second

// MaxBody is the most bytes of a request's body.
const MaxBody = 1 << 20

// The media types of the API.
const (
	TypeJSON       = "application/json"
	TypeMergePatch = "application/merge-patch+json" // RFC 7396
	TypeProblem    = "application/problem+json"     // RFC 9457
	TypeEvents     = "text/event-stream"            // server-sent events
	TypeDNS        = "application/dns-message"      // RFC 8484
	TypeDNSJSON    = "application/dns-json"
	TypeText       = "text/plain; charset=utf-8"
)

// Service is an element of the list of services.
type Service struct {
	Service  string         `json:"service"`  // as its registrants spell it
	Healthy  int            `json:"healthy"`  // instances that a plain lookup may return
	Total    int            `json:"total"`    // all instances
	Tags     discovery.Tags `json:"tags"`     // of all instances, sorted
	Revision int64          `json:"revision"` // etcd's, of the last change
	// Unwatched means that the agent watches services on demand, that nobody has asked it
	// for this one, and that it knows only the name.
	Unwatched bool `json:"unwatched,omitempty"`
}

// ServiceOf returns the element of a service in the list of services.
func ServiceOf(s *view.Service) Service {
	return Service{
		Service:  s.Name,
		Healthy:  s.Healthy(),
		Total:    len(s.Entries()),
		Tags:     s.Tags(),
		Revision: s.Revision,
	}
}

// CheckReport is the result of a ttl check that a service reports about itself.
type CheckReport struct {
	Status discovery.Status `json:"status"`
	Output string           `json:"output,omitempty"` // the first 4 KiB are kept
}

// EventReset is the type of an event that has all instances, and replaces everything that the
// reader knew before. The other types are those of package view.
const EventReset view.EventType = "reset"

// Event is one event of a watch.
type Event struct {
	// Cursor resumes a watch after this event, as its Last-Event-ID: "<revision>-<epoch>",
	// or "<revision>.<step>-<epoch>" for a change that the agent made without etcd. It is
	// not part of the data.
	Cursor string         `json:"-"`
	Type   view.EventType `json:"-"` // the name of the server-sent event

	Revision  int64         `json:"revision"`          // etcd's
	Service   string        `json:"service,omitempty"` // EventReset: the watched service; empty: all
	ID        string        `json:"id,omitempty"`
	Instance  *view.Entry   `json:"instance,omitempty"` // EventPut
	Reason    view.Reason   `json:"reason,omitempty"`   // EventDelete
	Instances []*view.Entry `json:"instances,omitzero"` // EventReset; sorted by service and id
}
