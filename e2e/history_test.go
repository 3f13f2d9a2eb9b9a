package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"disc/agent/api"
)

// lookupResult is the answer to one lookup.
type lookupResult struct {
	service string
	asked   time.Time
	took    time.Duration
	ids     []string // of the endpoints, sorted
	suspect int      // the number of suspects among them
	view    api.Freshness
	err     error
}

// ask looks a service up once.
func (s *sidecar) ask(ctx context.Context, service string) lookupResult {
	l := lookupResult{service: service, asked: time.Now(), ids: []string{}}
	answer, view, err := s.Lookup(ctx, service, api.LookupOptions{})
	l.took, l.view, l.err = time.Since(l.asked), view, err
	for _, e := range answer.Endpoints {
		l.ids = append(l.ids, e.ID)
		if e.Suspect {
			l.suspect++
		}
	}
	slices.Sort(l.ids)
	return l
}

// has returns an error unless the answer has exactly these instances.
func (l lookupResult) has(ids []string) error {
	if l.err == nil && !slices.Equal(l.ids, ids) {
		return fmt.Errorf("lookup of %s: %v, want %v", l.service, l.ids, ids)
	}
	return l.err
}

// history has the answers to continuous lookups of one service.
type history struct {
	cancel  context.CancelFunc
	asking  sync.WaitGroup
	answers []lookupResult // to be read after stop
}

// record looks a service up again and again, and records every answer, until it is stopped or
// the test ends.
func (s *sidecar) record(t *testing.T, service string) *history {
	ctx, cancel := context.WithCancel(t.Context())
	h := &history{cancel: cancel}
	t.Cleanup(h.stop)
	h.asking.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
			if answer := s.ask(ctx, service); ctx.Err() == nil {
				h.answers = append(h.answers, answer)
			}
		}
	})
	return h
}

func (h *history) stop() {
	h.cancel()
	h.asking.Wait()
}

// always checks that every answer has exactly these instances.
func (h *history) always(t *testing.T, ids ...string) {
	t.Helper()
	wrong := 0
	for _, l := range h.answers {
		if err := l.has(ids); err != nil {
			if wrong++; wrong == 1 {
				t.Errorf("one of %d answers, at %s: %v", len(h.answers), l.asked.Format(time.TimeOnly), err)
			}
		}
	}
	if len(h.answers) == 0 {
		t.Error("there is no answer")
	}
	oldest, slowest := time.Duration(0), time.Duration(0)
	for _, l := range h.answers {
		oldest, slowest = max(oldest, l.view.Age), max(slowest, l.took)
	}
	t.Logf("%d lookups, %d not answered with %v; the oldest view was %v old, the slowest answer took %v",
		len(h.answers), wrong, ids, oldest, slowest.Round(time.Millisecond))
}

// upToDate checks that no view is older than it says: an answer has every instance that was
// written before the view's age. Ages are in milliseconds.
func (h *history) upToDate(t *testing.T, written map[string]time.Time) {
	t.Helper()
	oldest := time.Duration(0)
	for _, l := range h.answers {
		oldest = max(oldest, l.view.Age)
		for id, at := range written {
			if l.err == nil && at.Before(l.asked.Add(-l.view.Age-time.Millisecond)) && !slices.Contains(l.ids, id) {
				t.Fatalf("the answer of %s lacks %s, which was written %v before, but says that its view is %v old",
					l.asked.Format(time.TimeOnly), id, l.asked.Sub(at), l.view.Age)
			}
		}
	}
	t.Logf("%d lookups, and no view is older than it says; the oldest view was %v old", len(h.answers), oldest)
}
