package api

import (
	"time"

	"disc/discovery"
)

// Agent is what an agent says of itself.
type Agent struct {
	Version       string         `json:"version"`
	Node          string         `json:"node"`
	Zone          string         `json:"zone,omitempty"`
	Namespace     string         `json:"namespace"`
	Advertise     string         `json:"advertise,omitempty"` // the address that instances get by default
	Owner         string         `json:"owner"`               // random, kept in the data directory
	Run           string         `json:"run"`                 // random, made at each start
	Started       time.Time      `json:"started"`
	Endpoints     []string       `json:"endpoints"` // of etcd
	Settings      []Setting      `json:"settings"`  // without secrets; sorted by name
	Session       Session        `json:"session"`
	Catalog       Catalog        `json:"catalog"`
	Registrations []Registration `json:"registrations"` // sorted by service and id
	Certificates  []Certificate  `json:"certificates,omitempty"`
}

// Certificate is a file of certificates that a setting names.
type Certificate struct {
	Setting string    `json:"setting"` // dotted, as in the file: "etcd.cert"
	File    string    `json:"file"`
	Expires time.Time `json:"expires"`        // when it ends to be valid
	Soon    bool      `json:"soon,omitempty"` // in less than 14 days
}

// Setting is one setting of the agent.
type Setting struct {
	Name   string `json:"name"`             // dotted, as in the file: "http.listen"
	Value  any    `json:"value"`            // a secret shows only whether it is set
	Source string `json:"source,omitempty"` // where it came from: default, a file, a variable, a flag
}

// SessionState is how an agent's session is.
type SessionState string

// The states of a session.
const (
	SessionAlive      SessionState = "alive"      // the lease is granted and kept alive
	SessionConnecting SessionState = "connecting" // there is no lease; trying for ever
)

// Session is the agent's lease in etcd.
type Session struct {
	State         SessionState       `json:"state"`
	Lease         string             `json:"lease,omitempty"` // hexadecimal, as etcdctl shows it
	TTL           discovery.Duration `json:"ttl"`
	Since         time.Time          `json:"since,omitzero"`           // of the state
	LastKeepalive discovery.Duration `json:"last_keepalive,omitempty"` // ago; of the last one that was answered
	Error         string             `json:"error,omitempty"`          // why there is no lease
}

// Catalog is the state of the agent's local view.
type Catalog struct {
	Synced    bool               `json:"synced"` // read from etcd since the start
	Revision  int64              `json:"revision"`
	Epoch     string             `json:"epoch,omitempty"`
	Age       discovery.Duration `json:"age"` // since etcd last confirmed the view
	Stale     bool               `json:"stale"`
	Services  int                `json:"services"`
	Instances int                `json:"instances"`
	Nodes     int                `json:"nodes"`
	Suspects  int                `json:"suspects"`        // instances that vanished with many others and are kept
	Broken    int                `json:"broken"`          // records that cannot be read
	Resyncs   int                `json:"resyncs"`         // lists after the first
	Error     string             `json:"error,omitempty"` // why the view is not fresh
}

// RegistrationSource is who told the agent to register an instance.
type RegistrationSource string

// The sources of registrations.
const (
	FromConfig RegistrationSource = "config" // the config file
	FromAPI    RegistrationSource = "api"    // remembered until deregistered
	FromHold   RegistrationSource = "held"   // bound to an open request, never remembered
)

// RegistrationState is how far a registration is.
type RegistrationState string

// The states of a registration.
const (
	RegistrationPending  RegistrationState = "pending"  // to be written to etcd
	RegistrationWritten  RegistrationState = "written"  // in etcd as wanted
	RegistrationConflict RegistrationState = "conflict" // another owner holds it; retried when that one goes
	RegistrationLeaving  RegistrationState = "leaving"  // to be taken out of etcd
)

// Registration is one instance that the agent registers.
type Registration struct {
	Service  string             `json:"service"`
	ID       string             `json:"id"`
	Source   RegistrationSource `json:"source"`
	State    RegistrationState  `json:"state"`
	Revision int64              `json:"revision,omitempty"` // etcd's, of the last write
	Error    string             `json:"error,omitempty"`    // why it is not written
	Status   discovery.Status   `json:"status"`
	Checks   []Check            `json:"checks"` // in the order of the registration
}

// Check is a check of a registration with what only its own agent knows.
type Check struct {
	ID     string              `json:"id"`
	Name   string              `json:"name,omitempty"`
	Type   discovery.CheckType `json:"type"`
	Status discovery.Status    `json:"status"`
	Output string              `json:"output,omitempty"` // of the last run; at most 4 KiB
	Since  time.Time           `json:"since,omitzero"`   // of the status
	Last   time.Time           `json:"last,omitzero"`    // run or report
}
