package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

// The holder deregisters its instance while it holds it: after that, another holder could have
// the id, and would lose its registration.
func TestHolderDeregistersBeforeItLetsGo(t *testing.T) {
	for name, answer := range map[string]func(stop context.CancelFunc){
		"while it is held": func(context.CancelFunc) {},
		"while it asks":    func(stop context.CancelFunc) { stop() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			var held atomic.Bool
			deregistered := make(chan bool, 10) // whether it was held
			agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodDelete {
					deregistered <- held.Load()
					return
				}
				held.Store(true)
				defer held.Store(false)
				answer(stop)
				w.Header().Set("Content-Type", "application/json")
				if err := json.NewEncoder(w).Encode(view.Entry{Instance: discovery.Instance{Service: "web", ID: "web-1"}}); err != nil {
					t.Error(err)
				}
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				<-r.Context().Done()
			}))
			defer agent.Close()
			client, err := api.NewClient(agent.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer client.CloseIdle()
			h := newRegistrationHolder(client, discovery.Registration{Service: "web", ID: "web-1"}, t.Logf)
			ran := make(chan struct{})
			go func() { h.run(ctx); close(ran) }()
			<-h.registered
			stop()
			<-ran
			if count, wasHeld := len(deregistered), <-deregistered; count != 1 || !wasHeld {
				t.Errorf("deregistered %d times, held: %v", count, wasHeld)
			}
		})
	}
}
