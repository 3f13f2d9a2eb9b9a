package httpapi

import (
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery/view"
)

// A caller may give a revision that the agent's view reaches only later, without a change of what
// was asked for: through another service, or because etcd tells that nothing has changed.
func TestBlockingLookupWaitsForAViewThatCatchesUp(t *testing.T) {
	for name, catchUp := range map[string]func(f *fleet){
		"through another service": func(f *fleet) {
			other := web(2)
			other.Service = "other"
			change := f.change(f.keys.Instance("other", "web-2"), other.Encode())
			change.Created, change.Modified = 8, 8
			f.view.Snapshot, _, _ = f.view.Snapshot.Apply(8, []view.Change{change})
		},
		"without any change": func(f *fleet) { f.view.Confirmed = 8 },
	} {
		t.Run(name, func(t *testing.T) {
			f := withWebs(1)
			caughtUp := make(chan struct{})
			f.progress = func() { catchUp(f); close(caughtUp) }
			a := f.api(t, Options{})
			a.timeouts.lag = time.Millisecond
			s := serve(t, a)
			indexes := make(chan int64, 1)
			go func() {
				_, v, err := s.Lookup(t.Context(), "web", api.LookupOptions{Wait: api.Wait{Index: 8, For: api.MaxWait}})
				if err != nil {
					t.Error(err)
				}
				indexes <- v.Index
			}()
			select { // the change comes later
			case index := <-indexes:
				t.Fatalf("index %d without a change", index)
			case <-caughtUp:
			}
			select {
			case index := <-indexes:
				t.Fatalf("index %d without a change", index)
			case <-time.After(50 * a.timeouts.lag): // a query that gives up has done so by now
			}
			waits(t, s, 1)
			f.put(web(1))
			if index := <-indexes; index != 9 {
				t.Errorf("index %d, want that of the change, 9", index)
			}
		})
	}
}

// The header has the revision up to which the view is complete, which moves on without changes.
func TestRevisionOfAConfirmedView(t *testing.T) {
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	f.update(func() { f.view.Confirmed = 8 })
	for _, ask := range []func() (api.Freshness, error){
		func() (api.Freshness, error) {
			_, v, err := s.Lookup(t.Context(), "web", api.LookupOptions{})
			return v, err
		},
		func() (api.Freshness, error) { _, v, err := s.Services(t.Context(), api.Wait{}); return v, err },
	} {
		if v, err := ask(); err != nil || v.Revision != 8 || v.Index != 1 {
			t.Errorf("%+v, %v", v, err)
		}
	}
}

func TestBegins(t *testing.T) {
	for name, tt := range map[string]struct {
		known, index int64
		view         view.View
		want         bool // it waits
	}{
		"the index":                             {known: 5, index: 5, want: true},
		"the index, of a partial view":          {known: 5, index: 5, view: view.View{Partial: true}, want: true},
		"an earlier index":                      {known: 4, index: 5},
		"a revision since":                      {known: 8, index: 5, want: true},
		"a revision since, of a partial view":   {known: 8, index: 5, view: view.View{Partial: true}},
		"a revision since the first view":       {known: 8, index: 5, view: view.View{First: 8}, want: true},
		"one that may be of another life":       {known: 8, index: 5, view: view.View{First: 9}},
		"the index, which may be of another":    {known: 5, index: 5, view: view.View{First: 9}, want: true},
		"a later change of the view itself":     {known: 8 + view.MaxRevision + 1, index: 5},
		"a revision, while the subject is gone": {known: 8, index: 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := seen{known: tt.known, index: tt.index}
			if got := s.begins(tt.view); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
