package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"disc/agent/api"
	"disc/config"
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

// TestHolderTakesTheTokenThatReplacesItsOwn replaces the token of the agent while an instance is
// held: its holder registers it again with the token that is in the file now.
func TestHolderTakesTheTokenThatReplacesItsOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var valid atomic.Value
	valid.Store("old")
	ends, held := make(chan struct{}), make(chan string, 10)
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token != valid.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodDelete {
			return
		}
		if err := json.NewEncoder(w).Encode(view.Entry{Instance: discovery.Instance{Service: "web", ID: "web-1"}}); err != nil {
			t.Error(err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		held <- token
		select {
		case <-ends:
		case <-r.Context().Done():
		}
	}))
	defer agent.Close()
	a := &app{config: &config.Config{CLI: config.CLI{Agent: agent.URL, TokenFile: file}}}
	client, err := a.anyAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdle()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ran := make(chan struct{})
	go func() {
		newRegistrationHolder(client, discovery.Registration{Service: "web", ID: "web-1"}, t.Logf).run(ctx)
		close(ran)
	}()
	if token := <-held; token != "old" {
		t.Errorf("held with %q", token)
	}
	if err := os.WriteFile(file, []byte("new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	valid.Store("new")
	ends <- struct{}{} // as the agent ends it at the next keepalive
	select {
	case token := <-held:
		if token != "new" {
			t.Errorf("held again with %q", token)
		}
	case <-time.After(time.Minute):
		t.Error("not registered again")
	}
	stop()
	<-ran
}
