package api

import (
	"context"

	"disc/discovery"
	"disc/discovery/view"
)

// WhyState says whether an agent answers with an instance.
type WhyState string

// The values of WhyState.
const (
	WhyAnswered WhyState = "answered" // a lookup of the service answers with it
	WhyLeftOut  WhyState = "left_out" // it is there, and a lookup does not answer with it
	WhyGone     WhyState = "gone"     // the agent has seen it, and it is not there any more
)

// Why is what an agent and etcd know of an instance, and why a lookup of its service answers with
// it or not.
type Why struct {
	Service string   `json:"service"`
	ID      string   `json:"id"`
	State   WhyState `json:"state"`
	Reason  string   `json:"reason"` // the one reason for the state
	Next    []string `json:"next"`   // what to do, one sentence each

	Instance     *view.Entry             `json:"instance,omitempty"`     // with its override, the static entry that it hides, and its checks
	Missing      bool                    `json:"missing,omitempty"`      // its record is gone from etcd, and it is still answered
	Order        *discovery.SuspectOrder `json:"order,omitempty"`        // of an operator, on a suspect
	Owner        *WhyOwner               `json:"owner,omitempty"`        // the agent that registered it
	Registration *Registration           `json:"registration,omitempty"` // where this agent is the owner
	Etcd         *WhyEtcd                `json:"etcd,omitempty"`         // what etcd has now; nil: it was not asked

	Begins  *discovery.ChangeStart `json:"begins,omitempty"` // of the agent's history of the service
	Changes []discovery.Change     `json:"changes"`          // the last ones that the agent saw, oldest first

	Revision int64              `json:"revision"` // etcd's, up to which the agent's view is complete
	Age      discovery.Duration `json:"age"`      // since etcd last confirmed the view
	Stale    bool               `json:"stale,omitempty"`
}

// WhyOwner is the agent that registered an instance.
type WhyOwner struct {
	Agent   string          `json:"agent"`
	Node    string          `json:"node"`
	Here    bool            `json:"here,omitempty"`   // it is the agent that is asked
	Session WhySession      `json:"session"`          // whether it lives
	Record  *discovery.Node `json:"record,omitempty"` // the agent's own record
}

// WhySession is the state of an owner's session, by its own record in etcd and the lease of the
// instance's.
type WhySession string

// The states of an owner's session.
const (
	WhySessionAlive   WhySession = "alive"   // its own record is there, or the lease of the instance's
	WhySessionEnded   WhySession = "ended"   // both are gone
	WhySessionUnknown WhySession = "unknown" // the node cannot be read
)

// WhyEtcd is what etcd has of an instance. Its revisions are those of the last write.
type WhyEtcd struct {
	Record     int64               `json:"record,omitempty"`
	Leaving    bool                `json:"leaving,omitempty"`    // the record only says that the instance was deregistered
	Unreadable string              `json:"unreadable,omitempty"` // why a value cannot be read
	Key        string              `json:"key,omitempty"`        // of the value that cannot be read
	Override   int64               `json:"override,omitempty"`
	Static     int64               `json:"static,omitempty"`
	Lease      string              `json:"lease,omitempty"` // of the record, hexadecimal
	TTL        discovery.Duration  `json:"ttl,omitempty"`   // of the lease
	Heard      *discovery.Duration `json:"heard,omitempty"` // time since the lease was last renewed, with an error of a second
	Error      string              `json:"error,omitempty"` // why etcd, or the lease, could not be asked
}

// Why explains why the agent answers with an instance or not, and what to do. ErrNotFound: neither
// the agent nor etcd knows the instance, and the agent has not seen it.
func (c *Client) Why(ctx context.Context, service, id string) (Why, error) {
	var w Why
	_, err := c.call(ctx, request{method: "GET", path: instancePath(service, id) + "/why"}, &w)
	return w, err
}
