package httpapi

import (
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// subject returns what a query depends on in a snapshot: the service whose changes wake it
// (empty: any change), and the index; 0: the subject does not exist.
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

// awaitView returns the view to answer a query from, with the scopes that the answer
// depends on, and the index of the query. Where the caller asks for it, awaitView blocks
// until the index differs from the caller's. It stops waiting when the caller's time is
// over, the caller is gone or the API ends.
func (a *API) awaitView(r request, about subject, scopes ...discovery.Scope) (view.View, int64, error) {
	known, wait, err := r.query.wait()
	if err != nil {
		return view.View{}, 0, err
	}
	current, err := a.ensuredView(r, scopes...)
	if err != nil {
		return view.View{}, 0, err
	}
	service, index := about(current.Snapshot)
	if wait == 0 || index != known {
		return current, index, a.startWork(r)
	}
	end, err := a.admit(r, a.reads)
	if err != nil {
		return view.View{}, 0, err
	}
	defer end()
	defer a.metrics.streaming("wait")()
	defer a.backends.Catalog.Retain(scopes...)()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for over := false; ; {
		changed := a.backends.Catalog.Changed(service)
		if current, err = a.backends.Catalog.View(); err != nil {
			return view.View{}, 0, err
		}
		if service, index = about(current.Snapshot); index != known || over {
			// What was dropped from the view, as etcd forbids to read it, is not absent.
			if current, err = a.ensuredView(r, scopes...); err != nil {
				return view.View{}, 0, err
			}
			service, index = about(current.Snapshot)
		}
		if index != known || over {
			if err := a.recheck(r); err != nil {
				return view.View{}, 0, err
			}
			return current, index, a.startWork(r)
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

// ensuredView returns the view once it has the scopes, as far as they exist.
func (a *API) ensuredView(r request, scopes ...discovery.Scope) (view.View, error) {
	if _, err := a.backends.Catalog.View(); err != nil {
		return view.View{}, err
	}
	if err := a.backends.Catalog.Ensure(r.Context(), scopes...); err != nil {
		return view.View{}, err
	}
	return a.backends.Catalog.View()
}

// awaitRevision waits until the view has a write to a service, which etcd answered with
// revision. It stops waiting when that takes too long, the caller is gone or the API ends:
// the write is done in any case.
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

// hasWrite reports whether a view has the write to a service at a revision. A partial view
// may get later changes of other services before it.
func hasWrite(v view.View, service string, revision int64) bool {
	if !v.Partial {
		return v.Snapshot.Revision() >= revision
	}
	s, ok := v.Snapshot.Service(service)
	return ok && s.Revision >= revision
}
