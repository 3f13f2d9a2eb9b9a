package cli

import (
	"context"
	"encoding/json"
	"fmt"
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

// A holder whose connection broke as its instance was deregistered by force learns that when it
// registers the instance again, and does not try on.
func TestHolderIsRefusedAfterForce(t *testing.T) {
	var asked atomic.Int32
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			if err := json.NewEncoder(w).Encode(view.Entry{Instance: discovery.Instance{Service: "web", ID: "web-1"}}); err != nil {
				t.Error(err)
			}
			return
		}
		w.Header().Set(api.HeaderLost, "deregistered by force, by two at 10.0.0.2:1")
		w.Header().Set("Content-Type", api.TypeProblem)
		w.WriteHeader(http.StatusConflict)
		if err := json.NewEncoder(w).Encode(api.NewProblem(http.StatusConflict, "web/web-1 was taken")); err != nil {
			t.Error(err)
		}
	}))
	defer agent.Close()
	client, err := api.NewClient(agent.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdle()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var said string
	h := newRegistrationHolder(client, discovery.Registration{Service: "web", ID: "web-1"}, func(format string, args ...any) { said = fmt.Sprintf(format, args...) })
	h.run(ctx)
	if want := "web/web-1 is not registered any more: deregistered by force, by two at 10.0.0.2:1; it stays so until it is run anew"; said != want || !h.taken.Load() || asked.Load() != 2 {
		t.Errorf("says %q after %d requests, want %q", said, asked.Load(), want)
	}
}
