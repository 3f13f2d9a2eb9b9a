// App is an application with several workers on several hosts. They share a value, a limit and
// claims through the agent on their host. Run a worker with: go run -C e2e/example ./app -listen 127.0.0.1:8000
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// app is a worker that uses the agent at a URL.
type app struct{ agent string }

func main() {
	listen := flag.String("listen", "127.0.0.1:8000", "address to serve")
	flag.Parse()
	a := app{agent: "http://127.0.0.1:3472"}
	if url := os.Getenv("DISC_AGENT"); url != "" {
		a.agent = url
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /greeting", a.setGreeting)
	mux.HandleFunc("GET /greeting", a.greeting)
	mux.HandleFunc("POST /send", a.send)
	mux.HandleFunc("POST /work", a.work)
	log.Fatal(http.ListenAndServe(*listen, mux))
}

func (a app) disc(r *http.Request, method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(r.Context(), method, a.agent+"/v1"+path, body)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}

// setGreeting writes the greeting, which every worker reads.
func (a app) setGreeting(w http.ResponseWriter, r *http.Request) {
	answer, err := a.disc(r, "PUT", "/kv/app/greeting", r.Body)
	if err != nil {
		fail(w, err)
		return
	}
	defer answer.Body.Close()
	revision, err := strconv.Atoi(answer.Header.Get("Disc-Revision"))
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, answer.StatusCode, map[string]any{"revision": revision})
}

func (a app) greeting(w http.ResponseWriter, r *http.Request) {
	answer, err := a.disc(r, "GET", "/kv/app/greeting?min_rev="+url.QueryEscape(r.FormValue("min_rev")), nil)
	if err != nil {
		fail(w, err)
		return
	}
	defer answer.Body.Close()
	value, err := io.ReadAll(answer.Body)
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, answer.StatusCode, map[string]any{"value": string(value)})
}

// send sends a message. The limit applies to all workers together.
func (a app) send(w http.ResponseWriter, r *http.Request) {
	answer, err := a.disc(r, "POST", "/limits/sms/take", nil)
	if err != nil {
		fail(w, err)
		return
	}
	defer answer.Body.Close()
	reply(w, answer.StatusCode, map[string]any{})
}

// work claims an idle GPU, which no other worker uses until it is released.
func (a app) work(w http.ResponseWriter, r *http.Request) {
	answer, err := a.disc(r, "POST", "/claims/gpu?wait=30s", nil)
	if err != nil {
		fail(w, err)
		return
	}
	defer answer.Body.Close()
	var claim struct {
		Claim    string
		Fence    int64
		Endpoint struct{ ID string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&claim); err != nil || answer.StatusCode != http.StatusCreated {
		fail(w, fmt.Errorf("claim a GPU: %s: %w", answer.Status, err))
		return
	}
	begin := time.Now()
	seconds, _ := strconv.ParseFloat(r.FormValue("seconds"), 64) // 0 without a value
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	end := time.Now()
	released, err := a.disc(r, "DELETE", "/claims/"+claim.Claim, nil)
	if err != nil {
		fail(w, err)
		return
	}
	released.Body.Close()
	reply(w, http.StatusOK, map[string]any{"gpu": claim.Endpoint.ID, "fence": claim.Fence,
		"begin": float64(begin.UnixNano()) / 1e9, "end": float64(end.UnixNano()) / 1e9})
}

func fail(w http.ResponseWriter, err error) { http.Error(w, err.Error(), http.StatusBadGateway) }

func reply(w http.ResponseWriter, status int, body map[string]any) {
	body["worker"] = os.Getpid()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err)
	}
}
