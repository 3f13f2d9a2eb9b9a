package view

import "disc/discovery"

// EventType is the kind of a change of an instance.
type EventType string

// The types of events.
const (
	EventPut    EventType = "put"
	EventDelete EventType = "delete"
	EventHeld   EventType = "held" // see [Change.Hold]; readers see no change
)

// Reason is the reason for which an instance is gone.
type Reason string

// The reasons.
const (
	ReasonLeft    Reason = "left"    // its agent deregistered it
	ReasonExpired Reason = "expired" // its lease expired: its agent died
	ReasonRemoved Reason = "removed" // its key was deleted
)

// Event is a change of one instance as readers see it.
type Event struct {
	Revision int64
	Step     int64 // see [discovery.Cursor]; 0: the change came in time
	LateAt   int64 // the revision that the view had when the change came late; 0: it came in time
	Type     EventType
	Service  string
	ID       string
	Reason   Reason // of an EventDelete
	Entry    *Entry // of an EventPut
}

// Cursor returns the position of the event in an epoch.
func (e Event) Cursor(epoch string) discovery.Cursor {
	return discovery.Cursor{Epoch: epoch, Revision: max(e.Revision, e.LateAt), Step: e.Step}
}
