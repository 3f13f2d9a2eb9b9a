package api

import (
	"time"

	"disc/discovery"
)

// Agent is an agent's own status.
type Agent struct {
	Version       string         `json:"version"`
	Node          string         `json:"node"`
	Zone          string         `json:"zone,omitempty"`
	Namespace     string         `json:"namespace"`
	Domain        string         `json:"domain,omitempty"`    // of its names in DNS, with the last dot
	Advertise     string         `json:"advertise,omitempty"` // the address that instances get by default
	Owner         string         `json:"owner"`               // random; persists in the data directory
	Run           string         `json:"run"`                 // random, made at each start
	Started       time.Time      `json:"started"`
	Endpoints     []string       `json:"endpoints"` // of etcd
	Settings      []Setting      `json:"settings"`  // without secrets; sorted by name
	Session       Session        `json:"session"`
	Catalog       Catalog        `json:"catalog"`
	Level         Level          `json:"level"`
	Ungranted     string         `json:"ungranted,omitempty"` // why no lock or claim is granted at present
	Registrations []Registration `json:"registrations"`       // sorted by service and id
	Unsaved       string         `json:"unsaved,omitempty"`   // why changes of registrations are lost if the agent ends now
	Unusable      []string       `json:"unusable,omitempty"`  // saved registrations that this version cannot use, or not all of, and why
	Certificates  []Certificate  `json:"certificates,omitempty"`
}

// Certificate is a file of certificates that a setting names.
type Certificate struct {
	Setting string    `json:"setting"`        // dotted, as in the file: "etcd.cert"
	File    string    `json:"file"`           // its path
	Expires time.Time `json:"expires"`        // of a chain the first expiry, of a CA bundle the last
	Soon    bool      `json:"soon,omitempty"` // expires in less than 14 days
}

// Setting is one setting of the agent.
type Setting struct {
	Name   string `json:"name"`             // dotted, as in the file: "http.listen"
	Value  any    `json:"value"`            // of a secret, only whether it is set
	Source string `json:"source,omitempty"` // its origin: default, a file, a variable, a flag
}

// SessionState is the state of an agent's session.
type SessionState string

// The states of a session.
const (
	SessionAlive      SessionState = "alive"      // the lease is granted and kept alive
	SessionConnecting SessionState = "connecting" // there is no lease to rely on: none, or one that may expire; the agent retries for ever
)

// Session is the agent's lease in etcd.
type Session struct {
	State         SessionState       `json:"state"`
	Lease         string             `json:"lease,omitempty"` // hexadecimal, as etcdctl shows it
	TTL           discovery.Duration `json:"ttl"`
	Since         time.Time          `json:"since,omitzero"`           // when the lease was granted or lost; zero: none was granted yet
	LastKeepalive discovery.Duration `json:"last_keepalive,omitempty"` // time since the last answered keepalive
	Endpoint      string             `json:"endpoint,omitempty"`       // of etcd, where the last keepalive was answered
	Member        string             `json:"member,omitempty"`         // of etcd, which answered it: hexadecimal, as etcdctl shows it
	Error         string             `json:"error,omitempty"`          // why there is no lease, or it is not renewed
}

// Catalog is the state of the agent's local view.
type Catalog struct {
	Synced    bool               `json:"synced"`          // etcd has been read since the start
	Revision  int64              `json:"revision"`        // of etcd, up to which the view is complete
	Epoch     string             `json:"epoch,omitempty"` // identifies the life of etcd that the revision belongs to
	Age       discovery.Duration `json:"age"`             // since etcd last confirmed the view
	Stale     bool               `json:"stale"`           // Age is above the agent's threshold
	Services  int                `json:"services"`
	Instances int                `json:"instances"`
	Nodes     int                `json:"nodes"`
	Suspects  int                `json:"suspects"`           // instances that vanished together with many others and stay in the view
	Broken    int                `json:"broken"`             // records that cannot be read
	Resyncs   int                `json:"resyncs"`            // full reads of etcd after the first
	Endpoint  string             `json:"endpoint,omitempty"` // of etcd, which is watched; absent: none is at present
	Member    string             `json:"member,omitempty"`   // of etcd, which answers there: hexadecimal, as etcdctl shows it
	Error     string             `json:"error,omitempty"`    // why the view is not fresh
}

// Level is the feature level of the namespace, as the agent knows it: what all its agents can read.
type Level struct {
	Own          int                     `json:"own"`                     // that this agent can read
	Namespace    int                     `json:"namespace"`               // 0: not known yet
	Target       int                     `json:"target,omitempty"`        // to which the namespace is to rise
	RaisedWithin discovery.Duration      `json:"raised_within,omitempty"` // about the longest time until then, if no agent below it is seen
	Behind       []discovery.BehindAgent `json:"behind,omitempty"`        // agents below the newest level that were seen in the last day, at most 20
	More         int                     `json:"more,omitempty"`          // further ones
	Error        string                  `json:"error,omitempty"`         // why it cannot be read or raised
}

// RegistrationSource is where a registration comes from.
type RegistrationSource string

// The sources of registrations.
const (
	FromConfig RegistrationSource = "config" // the config file
	FromAPI    RegistrationSource = "api"    // saved until deregistered
	FromHold   RegistrationSource = "held"   // an open request; never saved
)

// RegistrationState is the progress of a registration.
type RegistrationState string

// The states of a registration.
const (
	RegistrationPending  RegistrationState = "pending"  // not written to etcd yet
	RegistrationWritten  RegistrationState = "written"  // in etcd as registered
	RegistrationConflict RegistrationState = "conflict" // another owner has the id; retried when that one deregisters
	RegistrationLeaving  RegistrationState = "leaving"  // not removed from etcd yet
)

// Registration is one instance that the agent registers.
type Registration struct {
	Service  string             `json:"service"`
	ID       string             `json:"id"`
	Source   RegistrationSource `json:"source"`
	State    RegistrationState  `json:"state"`
	Revision int64              `json:"revision,omitempty"` // etcd's revision of the last write
	Error    string             `json:"error,omitempty"`    // why it is not in etcd
	Status   discovery.Status   `json:"status"`
	Checks   []Check            `json:"checks"` // in the order of the registration

	DeregisterAfter discovery.Duration `json:"deregister_after,omitempty"` // how long it may be critical until it is deregistered; 0: for ever
	DeregisterAt    time.Time          `json:"deregister_at,omitzero"`     // when it is deregistered, if nothing changes
}

// Check is a check of a registration, with the details that only its own agent knows.
type Check struct {
	ID     string              `json:"id"`
	Name   string              `json:"name,omitempty"`
	Type   discovery.CheckType `json:"type"`
	Status discovery.Status    `json:"status"`
	Output string              `json:"output,omitempty"` // of the last run; at most 4 KiB
	Since  time.Time           `json:"since,omitzero"`   // when the status began
	Last   time.Time           `json:"last,omitzero"`    // when it last ran or was reported
}
