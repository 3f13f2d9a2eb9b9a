package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// services are the services that the agents register and look up.
var services = []string{"web", "db", "queue"}

// instance names an instance.
type instance struct{ service, id string }

// lastRequest is the last request for an instance.
type lastRequest struct {
	wanted   bool
	answered bool      // the agent has answered the request
	leftAt   time.Time // when its record had left etcd; zero: not left, or at an unknown time
}

// fleet records the requests that its users sent to the agents.
type fleet struct {
	t        *testing.T
	mu       sync.Mutex
	requests map[string]map[instance]lastRequest // by agent
}

func newFleet(t *testing.T, agents []*agent) *fleet {
	f := &fleet{t: t, requests: map[string]map[instance]lastRequest{}}
	for _, a := range agents {
		f.requests[a.name] = map[instance]lastRequest{}
	}
	return f
}

func (f *fleet) record(a *agent, i instance, to lastRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests[a.name][i] = to
}

// register registers an instance through an agent. On an error, the outcome is unknown.
func (f *fleet) register(ctx context.Context, a *agent, i instance) error {
	f.record(a, i, lastRequest{wanted: true})
	_, err := a.Register(ctx, discovery.Registration{Service: i.service, ID: i.id, Address: "127.0.0.1", Port: 1})
	if err == nil {
		f.record(a, i, lastRequest{wanted: true, answered: true})
	}
	return err
}

// deregister deregisters an instance through an agent. On an error, the outcome is unknown.
func (f *fleet) deregister(ctx context.Context, a *agent, i instance) error {
	f.record(a, i, lastRequest{})
	done, err := a.Deregister(ctx, i.service, i.id)
	if errors.Is(err, discovery.ErrNotFound) { // an earlier request, which failed, was carried out
		err = nil
	}
	if err == nil {
		to := lastRequest{answered: true}
		if done.Written {
			to.leftAt = time.Now()
		}
		f.record(a, i, to)
	}
	return err
}

// churn registers and deregisters instances through an agent, until ctx ends.
func (f *fleet) churn(ctx context.Context, a *agent, random *rand.Rand) {
	for ctx.Err() == nil {
		service := services[random.IntN(len(services))]
		i := instance{service, fmt.Sprintf("%s-%s-%d", service, a.name, random.IntN(5))}
		do := f.register
		if random.IntN(3) == 0 {
			do = f.deregister
		}
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		do(attempt, a, i) // retryUnanswered repeats a failed request at the end
		cancel()
		select {
		case <-time.After(time.Duration(random.Int64N(int64(time.Second)))):
		case <-ctx.Done():
		}
	}
}

// retryUnanswered repeats the requests that an agent has not answered.
func (f *fleet) retryUnanswered(ctx context.Context, a *agent) error {
	f.mu.Lock()
	var unsure []instance
	for i, fate := range f.requests[a.name] {
		if !fate.answered {
			unsure = append(unsure, i)
		}
	}
	f.mu.Unlock()
	for _, i := range unsure {
		f.mu.Lock()
		do := f.deregister
		if f.requests[a.name][i].wanted {
			do = f.register
		}
		f.mu.Unlock()
		if err := do(ctx, a, i); err != nil {
			return fmt.Errorf("%s: %s: %w", a.name, i.id, err)
		}
	}
	return nil
}

// wanted returns the sorted ids of the instances that must be registered, through an agent or,
// with "", through all.
func (f *fleet) wanted(agent string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := []string{}
	for name, of := range f.requests {
		for i, fate := range of {
			if fate.wanted && (agent == "" || agent == name) {
				ids = append(ids, i.id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// goneFor returns how long ago an instance had left etcd at a moment; 0 when it had not.
func (f *fleet) goneFor(i instance, at time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, of := range f.requests {
		if fate := of[i]; !fate.leftAt.IsZero() {
			return at.Sub(fate.leftAt)
		}
	}
	return 0
}

// read looks up all services at an agent until ctx ends, and returns the number of answers. An
// answer must not have an instance that left long before etcd last confirmed the answer's
// view.
func (f *fleet) read(ctx context.Context, a *agent) (answers int) {
	for ; ctx.Err() == nil; <-time.After(10 * time.Millisecond) {
		for _, service := range services {
			asked := time.Now()
			answer, view, err := a.Lookup(ctx, service, api.LookupOptions{})
			if err != nil {
				continue // the agent may be dead, or have no view yet
			}
			answers++
			for _, e := range answer.Endpoints {
				if late := f.goneFor(instance{service, e.ID}, asked.Add(-view.Age)); late > ttl+5*time.Second {
					f.t.Errorf("%s answered with %s, %v after it was deregistered, and says that its view is %v old", a.name, e.ID, late, view.Age)
				}
			}
		}
	}
	return answers
}
