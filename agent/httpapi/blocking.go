package httpapi

import (
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// subject is what a query is about: the service whose changes concern it ("" for the
// lists of all), and its index in a snapshot; 0 when it is not there.
type subject func(*view.Snapshot) (service string, revision int64)

func serviceSubject(name string) subject {
	return func(s *view.Snapshot) (string, int64) {
		if service, ok := s.Service(name); ok {
			return name, service.Index()
		}
		return name, 0
	}
}

func servicesSubject(s *view.Snapshot) (string, int64) { return "", s.ServicesIndex() }

func nodesSubject(s *view.Snapshot) (string, int64) { return "", s.NodesRevision() }

// awaitView returns the view to answer a query from, with the parts that the answer lies in,
// and the query's index. When the caller asks for that, it blocks until the index is another than the caller's; it
// stops waiting when the caller's time is over, the caller is gone or the API ends.
func (a *API) awaitView(r request, about subject, parts ...discovery.Scope) (view.View, int64, error) {
	known, wait, err := r.query.wait()
	if err != nil {
		return view.View{}, 0, err
	}
	current, err := a.ensuredView(r, parts...)
	if err != nil {
		return view.View{}, 0, err
	}
	service, index := about(current.Snapshot)
	if wait == 0 || index != known {
		return current, index, nil
	}
	defer a.metrics.streaming("wait")()
	defer a.backends.Catalog.Retain(parts...)()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for over := false; ; {
		changed := a.backends.Catalog.Changed(service)
		if current, err = a.backends.Catalog.View(); err != nil {
			return view.View{}, 0, err
		}
		if service, index = about(current.Snapshot); index != known || over {
			return current, index, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			over = true
		case <-r.Context().Done():
			over = true
		case <-a.streamsEnded:
			over = true
		}
	}
}

// ensuredView returns the view once it has parts, as far as they exist.
func (a *API) ensuredView(r request, parts ...discovery.Scope) (view.View, error) {
	if _, err := a.backends.Catalog.View(); err != nil {
		return view.View{}, err
	}
	if err := a.backends.Catalog.Ensure(r.Context(), parts...); err != nil {
		return view.View{}, err
	}
	return a.backends.Catalog.View()
}

// awaitRevision waits until the view has reached a revision that etcd answered a write
// to a service with. It stops waiting when that takes long, the caller is gone or the
// API ends: the write has been made all the same.
func (a *API) awaitRevision(r request, service string, revision int64) {
	late := time.NewTimer(a.timeouts.ownWrite)
	defer late.Stop()
	defer a.backends.Catalog.Retain(scopeOf(service))()
	for {
		changed := a.backends.Catalog.Changed("")
		if view, err := a.backends.Catalog.View(); err == nil && hasWrite(view, service, revision) {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			return
		case <-r.Context().Done():
			return
		case <-a.streamsEnded:
			return
		}
	}
}

// hasWrite reports whether a view has what was written to a service at a revision. One
// that is partial may hear of others first.
func hasWrite(v view.View, service string, revision int64) bool {
	if !v.Partial {
		return v.Snapshot.Revision() >= revision
	}
	s, ok := v.Snapshot.Service(service)
	return ok && s.Revision >= revision
}
