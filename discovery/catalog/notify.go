package catalog

import "disc/discovery/view"

// notifier are the channels of those who wait for a change. Names that nobody has
// registered share one, or anybody could fill the memory by asking for names.
type notifier struct {
	any, unknown chan struct{}            // nil: nobody waits
	services     map[string]chan struct{} // of known services, by folded name
}

// channel returns the channel of a service, or of any change with an empty name.
func (w *notifier) channel(service string, now *view.Snapshot) <-chan struct{} {
	switch {
	case service == "":
		return openChannel(&w.any)
	case !hasService(now, service):
		return openChannel(&w.unknown)
	}
	ch := w.services[service]
	if ch == nil {
		ch = make(chan struct{})
		w.services[service] = ch
	}
	return ch
}

func hasService(s *view.Snapshot, service string) bool {
	if s == nil {
		return false
	}
	_, ok := s.Service(service)
	return ok
}

func openChannel(ch *chan struct{}) <-chan struct{} {
	if *ch == nil {
		*ch = make(chan struct{})
	}
	return *ch
}

func closeChannel(ch *chan struct{}) {
	if *ch != nil {
		close(*ch)
		*ch = nil
	}
}

// notify wakes those who wait for the named services; "" stands for a node. before is
// the snapshot that they waited on.
func (w *notifier) notify(services []string, before *view.Snapshot) {
	for _, name := range services {
		if ch, ok := w.services[name]; ok {
			close(ch)
			delete(w.services, name)
		} else if name != "" && w.unknown != nil && !hasService(before, name) {
			closeChannel(&w.unknown)
		}
	}
	if len(services) > 0 {
		closeChannel(&w.any)
	}
}

// notifyAll wakes everybody.
func (w *notifier) notifyAll() {
	for name, ch := range w.services {
		close(ch)
		delete(w.services, name)
	}
	closeChannel(&w.unknown)
	closeChannel(&w.any)
}
