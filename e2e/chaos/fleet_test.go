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

// services are what is registered and looked up.
var services = []string{"web", "db", "queue"}

// instance names one.
type instance struct{ service, id string }

// lastRequest is what was asked for an instance last.
type lastRequest struct {
	wanted   bool
	answered bool      // the agent has answered
	leftAt   time.Time // when it had left etcd; zero: it has not, or nobody knows when
}

// fleet is what its users know of the agents' instances.
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

// register asks an agent to register an instance. Whether it did is not known when that
// fails.
func (f *fleet) register(ctx context.Context, a *agent, i instance) error {
	f.record(a, i, lastRequest{wanted: true})
	_, err := a.Register(ctx, discovery.Registration{Service: i.service, ID: i.id, Address: "127.0.0.1", Port: 1})
	if err == nil {
		f.record(a, i, lastRequest{wanted: true, answered: true})
	}
	return err
}

// deregister asks an agent to deregister an instance.
func (f *fleet) deregister(ctx context.Context, a *agent, i instance) error {
	f.record(a, i, lastRequest{})
	done, err := a.Deregister(ctx, i.service, i.id)
	if errors.Is(err, discovery.ErrNotFound) { // one that went unanswered was done
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

// churn registers and deregisters instances of an agent, until ctx ends.
func (f *fleet) churn(ctx context.Context, a *agent, random *rand.Rand) {
	for ctx.Err() == nil {
		service := services[random.IntN(len(services))]
		i := instance{service, fmt.Sprintf("%s-%s-%d", service, a.name, random.IntN(5))}
		do := f.register
		if random.IntN(3) == 0 {
			do = f.deregister
		}
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		do(attempt, a, i) // one that failed is made sure of at the end
		cancel()
		select {
		case <-time.After(time.Duration(random.Int64N(int64(time.Second)))):
		case <-ctx.Done():
		}
	}
}

// retryUnanswered asks again for what an agent has not answered.
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

// wanted are the instances that are to be there, of an agent or, with "", of all; sorted.
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

// goneFor reports for how long an instance had been gone at a moment; 0: it had not.
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

// read looks everything up at an agent, until ctx ends. What has left must not be
// answered for long: not by a view that etcd has confirmed since.
func (f *fleet) read(ctx context.Context, a *agent) (answers int) {
	for ; ctx.Err() == nil; <-time.After(10 * time.Millisecond) {
		for _, service := range services {
			asked := time.Now()
			answer, view, err := a.Lookup(ctx, service, api.LookupOptions{})
			if err != nil {
				continue // it may be dead, or know nothing yet
			}
			answers++
			for _, e := range answer.Endpoints {
				if late := f.goneFor(instance{service, e.ID}, asked.Add(-view.Age)); late > ttl+5*time.Second {
					f.t.Errorf("%s: answered with %s, %v after it was deregistered, by a view that is %v old", a.name, e.ID, late, view.Age)
				}
			}
		}
	}
	return answers
}
