package catalog

import "disc/discovery/view"

// notifier holds the channels that are closed at a change. Unknown names share one channel,
// so that requests for arbitrary names do not fill the memory.
type notifier struct {
	any, unknown chan struct{}            // nil: nobody waits
	services     map[string]chan struct{} // of known services, by folded name
}

// channel returns the channel of a service; an empty name stands for any change.
func (n *notifier) channel(service string, now *view.Snapshot) <-chan struct{} {
	switch {
	case service == "":
		return openChannel(&n.any)
	case !hasService(now, service):
		return openChannel(&n.unknown)
	}
	ch := n.services[service]
	if ch == nil {
		ch = make(chan struct{})
		n.services[service] = ch
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

// notify wakes the waiters for the named services; "" stands for a node. before is the
// snapshot from before the change.
func (n *notifier) notify(services []string, before *view.Snapshot) {
	for _, name := range services {
		if ch, ok := n.services[name]; ok {
			close(ch)
			delete(n.services, name)
		} else if name != "" && n.unknown != nil && !hasService(before, name) {
			closeChannel(&n.unknown)
		}
	}
	if len(services) > 0 {
		closeChannel(&n.any)
	}
}

// notifyAll wakes all waiters.
func (n *notifier) notifyAll() {
	for name, ch := range n.services {
		close(ch)
		delete(n.services, name)
	}
	closeChannel(&n.unknown)
	closeChannel(&n.any)
}
