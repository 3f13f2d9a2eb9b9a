package changelog

import "disc/discovery"

// why returns why the change happened, in a sentence.
func (e *Entry) why() string {
	switch e.Kind {
	case discovery.ChangeWatched:
		return "this agent sees the changes from here on"
	case discovery.ChangeUnwatched:
		return "this agent does not see the changes from here on: it does not watch the service any more"
	case discovery.ChangeGap:
		return "this agent was cut off from etcd: what it found by comparing afterwards follows, and what came and went meanwhile is missing"
	case discovery.ChangeStartedOver:
		return "etcd was wiped, restored or replaced: its revisions begin anew"
	case discovery.ChangeReturned:
		return "it was registered again"
	case discovery.ChangeSuspect:
		return "its record vanished with many others, or when etcd started over; it is still answered, after the others"
	}
	return e.sentence()
}

// sentence returns why an instance came, changed or went.
func (e *Entry) sentence() string {
	gone := e.Kind == discovery.ChangeGone
	switch e.Reason {
	case discovery.ReasonRegistered:
		return "its agent" + e.on() + " registered it"
	case discovery.ReasonStatic:
		if gone {
			return "its static entry was deleted"
		}
		return "a static entry was written"
	case discovery.ReasonLeft:
		return "its agent" + e.on() + " deregistered it"
	case discovery.ReasonExpired:
		return "the session of its agent" + e.on() + " ended"
	case discovery.ReasonRemoved:
		return "its key in etcd was deleted"
	case discovery.ReasonUnreadable:
		return "its record cannot be read any more"
	case discovery.ReasonMassLoss:
		return "it had vanished with many others, and was not registered again"
	case discovery.ReasonNotFound:
		return "etcd has no record of it any more"
	case discovery.ReasonCheck:
		if e.Detail == "" {
			return "its checks are passing"
		}
		return e.Detail
	case discovery.ReasonOverride:
		if e.Detail == "" {
			return "its override was removed"
		}
		return "an operator set " + e.Detail
	case discovery.ReasonRestart:
		return "its agent" + e.on() + " runs anew and registered it again"
	case discovery.ReasonMoved:
		return "another agent" + e.on() + " registered it"
	case discovery.ReasonEdited:
		return "its registration was edited"
	}
	return ""
}

// on returns the node that the detail names, as the end of a clause.
func (e *Entry) on() string {
	if e.Detail == "" {
		return ""
	}
	return " on " + e.Detail
}
