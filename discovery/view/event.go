package view

import "disc/discovery"

// EventType is what happened to an instance.
type EventType string

// The types of events.
const (
	EventPut    EventType = "put"
	EventDelete EventType = "delete"
	EventHeld   EventType = "held" // see [Change.Hold]; nothing changes for readers
)

// Reason is why an instance went.
type Reason string

// The reasons.
const (
	ReasonLeft    Reason = "left"    // its agent deregistered it
	ReasonExpired Reason = "expired" // its lease ran out: a death
	ReasonRemoved Reason = "removed" // somebody deleted it
)

// Event is a change of one instance as it is shown.
type Event struct {
	Revision int64
	Step     int64 // see [Cursor]; 0 for what etcd told in time
	Late     int64 // the revision of the view that it came after; 0: in time
	Type     EventType
	Service  string
	ID       string
	Reason   Reason // of an EventDelete
	Entry    *Entry // of an EventPut
}

// Cursor is the place of an event of an epoch.
func (e Event) Cursor(epoch string) discovery.Cursor {
	return discovery.Cursor{Epoch: epoch, Revision: max(e.Revision, e.Late), Step: e.Step}
}
