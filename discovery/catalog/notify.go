package catalog

import "disc/discovery/view"

// waiters are the channels of those who wait for a change. Names that nobody has
// registered share one, or anybody could fill the memory by asking for names.
type waiters struct {
	any, unknown chan struct{}            // nil: nobody waits
	services     map[string]chan struct{} // of known services, by folded name
}

// of returns the channel of a service, or of any change with an empty name.
func (w *waiters) of(service string, now *view.Snapshot) <-chan struct{} {
	switch {
	case service == "":
		return wait(&w.any)
	case !knows(now, service):
		return wait(&w.unknown)
	}
	ch := w.services[service]
	if ch == nil {
		ch = make(chan struct{})
		w.services[service] = ch
	}
	return ch
}

func knows(s *view.Snapshot, service string) bool {
	if s == nil {
		return false
	}
	_, ok := s.Service(service)
	return ok
}

func wait(ch *chan struct{}) <-chan struct{} {
	if *ch == nil {
		*ch = make(chan struct{})
	}
	return *ch
}

func release(ch *chan struct{}) {
	if *ch != nil {
		close(*ch)
		*ch = nil
	}
}

// wake wakes those who wait for the named services; "" stands for a node. before is
// the snapshot that they waited on.
func (w *waiters) wake(services []string, before *view.Snapshot) {
	for _, name := range services {
		if ch, ok := w.services[name]; ok {
			close(ch)
			delete(w.services, name)
		} else if name != "" && w.unknown != nil && !knows(before, name) {
			release(&w.unknown)
		}
	}
	if len(services) > 0 {
		release(&w.any)
	}
}

// wakeAll wakes everybody.
func (w *waiters) wakeAll() {
	for name, ch := range w.services {
		close(ch)
		delete(w.services, name)
	}
	release(&w.unknown)
	release(&w.any)
}
