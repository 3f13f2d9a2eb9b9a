// App is an application with several workers on several hosts. They share a value, a limit and
// claims through the agent on their host. Run a worker with: go run -C e2e/example ./app -listen 127.0.0.1:8000
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// app is a worker that uses the agent on its host.
type app struct{ agent *api.Client }

func main() {
	listen := flag.String("listen", "127.0.0.1:8000", "address to serve")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen string) error {
	url := "http://127.0.0.1:3472"
	if given := os.Getenv("DISC_AGENT"); given != "" {
		url = given
	}
	agent, err := api.NewClient(url)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	a := app{agent}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]any{}) })
	mux.HandleFunc("PUT /greeting", a.setGreeting)
	mux.HandleFunc("GET /greeting", a.greeting)
	mux.HandleFunc("POST /send", a.send)
	mux.HandleFunc("POST /work", a.work)
	working, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	server := &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return working }}
	ended := make(chan error, 1)
	go func() {
		a.register(ctx, listener.Addr().(*net.TCPAddr).Port) // it deregisters while this still serves
		stopWork()                                           // which releases the claims
		ended <- shutdown(server)
	}()
	err = server.Serve(listener)
	if ctx.Err() != nil {
		return <-ended
	}
	return err
}

// endLimit is the time that the requests have to end.
const endLimit = 10 * time.Second

func shutdown(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	return errors.Join(server.Shutdown(ctx), server.Close())
}

// setGreeting writes the greeting, which every worker reads.
func (a app) setGreeting(w http.ResponseWriter, r *http.Request) {
	value, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, err)
		return
	}
	revision, err := a.agent.KVPut(r.Context(), "app/greeting", value, 0, nil)
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]any{"revision": revision})
}

func (a app) greeting(w http.ResponseWriter, r *http.Request) {
	least, _ := strconv.ParseInt(r.FormValue("min_rev"), 10, 64) // 0 without a value
	item, _, err := a.agent.KVGet(r.Context(), "app/greeting", api.KVRead{MinRevision: least})
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]any{"value": string(item.Value)})
}

// send sends a message. The limit applies to all workers together.
func (a app) send(w http.ResponseWriter, r *http.Request) {
	taken, err := a.agent.Take(r.Context(), "sms", 1)
	if err != nil {
		fail(w, err)
		return
	}
	if taken.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(time.Duration(taken.RetryAfter).Seconds()))))
		http.Error(w, taken.Reason, http.StatusTooManyRequests)
		return
	}
	reply(w, map[string]any{})
}

// fail answers that a claim is lost. Whatever else the agent refuses is no fault of the caller.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusServiceUnavailable
	if errors.Is(err, discovery.ErrLost) {
		status = http.StatusConflict
	}
	http.Error(w, err.Error(), status)
}

func reply(w http.ResponseWriter, body map[string]any) {
	body["worker"] = os.Getpid()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err)
	}
}
