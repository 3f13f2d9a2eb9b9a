// Package api holds the wire types of the agent's HTTP API and its Go client.
//
// What the API shares with etcd and with every other protocol is not repeated
// here: a registration is a [discovery.Registration], an instance as it is shown a
// [discovery.Entry], a lookup's answer a [discovery.Answer]. The API describes
// itself at /openapi.json.
//
// # Usage
//
//	agent, err := api.NewClient("http://127.0.0.1:3472")
//	answer, view, err := agent.Lookup(ctx, "web", api.LookupOptions{Tags: []string{"v2"}})
//
// To wait for the next change, hand the index of the last answer back:
//
//	answer, view, err = agent.Lookup(ctx, "web", api.LookupOptions{Wait: api.Wait{Index: view.Index, For: time.Minute}})
//
// Errors carry the kinds of package discovery across the wire, so that
// errors.Is(err, discovery.ErrNotFound) holds for a 404.
package api

import (
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// DefaultAddress is where an agent listens unless told otherwise (3472 spells DISC
// on a telephone).
const DefaultAddress = "127.0.0.1:3472"

// The headers of the API.
const (
	HeaderRevision = "Disc-Revision" // of the view, or of the write
	HeaderIndex    = "Disc-Index"    // to be handed back as ?index=
	HeaderAge      = "Disc-Age"      // seconds, with decimals
	HeaderStale    = "Disc-Stale"    // "true", or absent
	HeaderFence    = "Disc-Fence"    // of a lock or a claim
	HeaderWarning  = "Disc-Warning"  // what is done, and not as its caller may believe
)

// Limits of blocking queries.
const (
	DefaultWait = time.Minute      // with ?index= and without ?wait=
	MaxWait     = 10 * time.Minute // a longer ?wait= is refused
)

// Keepalive is how often a watch or a held registration says that it is still there.
const Keepalive = 15 * time.Second

// MaxBody is the greatest length of a request's body, in bytes.
const MaxBody = 1 << 20

// The media types of the API.
const (
	TypeJSON       = "application/json"
	TypeMergePatch = "application/merge-patch+json" // RFC 7396
	TypeProblem    = "application/problem+json"     // RFC 9457
	TypeEvents     = "text/event-stream"
	TypeDNS        = "application/dns-message" // RFC 8484
	TypeDNSJSON    = "application/dns-json"
	TypeText       = "text/plain; charset=utf-8"
)

// Service is one line of the list of services.
type Service struct {
	Service  string         `json:"service"` // as its registrants spell it
	Healthy  int            `json:"healthy"` // instances that a plain lookup may answer with
	Total    int            `json:"total"`   // instances that are shown
	Tags     discovery.Tags `json:"tags"`    // of all instances, sorted
	Revision int64          `json:"revision"`
	// Unwatched says that the agent watches by interest, that nobody has asked it for
	// the service, and that it knows nothing but the name.
	Unwatched bool `json:"unwatched,omitempty"`
}

// ServiceOf returns the line of a service in the list of services.
func ServiceOf(s *view.Service) Service {
	return Service{
		Service:  s.Name,
		Healthy:  s.Healthy(),
		Total:    len(s.Entries()),
		Tags:     s.Tags(),
		Revision: s.Revision,
	}
}

// CheckReport is what a service says of itself through a ttl check.
type CheckReport struct {
	Status discovery.Status `json:"status"`
	Output string           `json:"output,omitempty"` // the first 4 KiB are kept
}

// EventReset is the type of the event that starts a reader over: it carries all
// instances, and what the reader knew before is void. The other types are those of
// package discovery.
const EventReset view.EventType = "reset"

// Event is one event of a watch.
type Event struct {
	// Cursor is what a watch that goes on from here hands back as its
	// Last-Event-ID: "<revision>-<epoch>", or "<revision>.<step>-<epoch>" of what the
	// agent decided without etcd. It is no part of the data.
	Cursor string         `json:"-"`
	Type   view.EventType `json:"-"` // the name of the server-sent event

	Revision  int64         `json:"revision"`
	Service   string        `json:"service,omitempty"` // EventReset: the one that is watched, or none
	ID        string        `json:"id,omitempty"`
	Instance  *view.Entry   `json:"instance,omitempty"` // EventPut
	Reason    view.Reason   `json:"reason,omitempty"`   // EventDelete
	Instances []*view.Entry `json:"instances,omitzero"` // EventReset; sorted by service and id
}
