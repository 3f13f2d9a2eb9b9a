package httpapi

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// TestWhoDidWhat tests what the log and the metrics have of callers.
func TestWhoDidWhat(t *testing.T) {
	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	a := withWebs(1).api(t, Options{Access: authenticator(policy(t, "read", "register kv take", "read")), Registerer: metrics, Gatherer: metrics,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	line := func(method, path, token, body string) string {
		log.Reset()
		ask(a, method, path, token, []byte(body))
		return log.String()
	}
	const secret = "register kv take"
	for _, c := range []struct {
		request, token, body string
		want                 []string // nil: no line
	}{
		{"PUT /v1/services/web/instances/w%0A1", secret, "{}", []string{"level=INFO msg=write caller=t0 by=token scope=register method=PUT", "path=/v1/services/web/instances/w%0A1", "status=400", "error="}},
		{"PUT /v1/services/web/instances/w", secret, "{}", []string{"level=INFO msg=write caller=t0 by=token scope=register", "status=201"}},
		{"PUT /v1/services/web/instances/w", "read", "{}", []string{"level=WARN", "request refused", "caller=t1", "status=403", "lacks scope"}},
		{"PUT /v1/services/web/instances/w", "", "{}", []string{"level=WARN", "caller=anonymous", "status=401"}},
		{"PUT /v1/services/web/instances/w", "guess", "{}", []string{"level=WARN", "caller=unknown", "status=401"}},
		{"POST /v1/kv", secret, `{"ops":[{"op":"put","key":"a\u202eb"}]}`, []string{"caller=t0", `keys="[\"a\\u202eb\"]"`, "status=200"}},
		{"PUT /v1/kv/" + strings.Repeat("k", 400), secret, "v", []string{"caller=t0", "/" + strings.Repeat("k", 249) + " "}},
		{"POST /v1/limits/sms/take", secret, "", nil},
		{"PUT /v1/services/web/instances/w/load", secret, `{"utilization":1}`, nil},
		{"POST /v1/limits/sms/take", "guess", "", []string{"level=WARN", "caller=unknown", "scope=take"}},
		{"GET /v1/services", secret, "", nil},
	} {
		t.Run(c.request+" "+c.token, func(t *testing.T) {
			method, path, _ := strings.Cut(c.request, " ")
			got := line(method, path, c.token, c.body)
			if (got == "") != (c.want == nil) {
				t.Errorf("log %q", got)
			}
			for _, text := range c.want {
				if !strings.Contains(got, text) {
					t.Errorf("%q is not in %q", text, got)
				}
			}
			if strings.Contains(got, secret) || strings.Contains(got, "guess") {
				t.Errorf("the log has the token: %s", got)
			}
		})
	}
	log.Reset()
	for range 100 {
		ask(a, "PUT", "/v1/kv/a", "guess", []byte("v"))
	}
	if n := strings.Count(log.String(), "\n"); n > 20 {
		t.Errorf("100 refused requests are %d lines in the log", n)
	}
	log.Reset()
	a.writes.limit = rate.NewLimiter(0, 3)
	for range 100 {
		ask(a, "PUT", "/v1/kv/a", secret, []byte("v"))
	}
	a.writes.limit = rate.NewLimiter(0, 1)
	ask(a, "PUT", "/v1/kv/a", secret, []byte("v"))
	if n := strings.Count(log.String(), "\n"); n != 4 || !strings.Contains(log.String(), "not_logged=97") {
		t.Errorf("101 writes are %d lines in the log: %s", n, log.String())
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "disc_http_access_total" {
				got[fmt.Sprint(m.Label[0].GetValue(), " ", m.Label[1].GetValue(), " ", m.Label[2].GetValue())] = m.Counter.GetValue()
			}
		}
	}
	for labels, want := range map[string]float64{
		"t0 allowed register": 3, "t1 refused register": 1, "anonymous refused register": 1, "unknown refused register": 1,
		"t0 allowed take": 1, "unknown refused take": 1, "t0 allowed kv": 103, "unknown refused kv": 100,
	} {
		t.Run(labels, func(t *testing.T) {
			if got[labels] != want {
				t.Errorf("%v, want %v of %v", got[labels], want, got)
			}
		})
	}
}

// TestEditsAreLogged expects a line for each registration and edit of an agent without tokens, and
// none for what programs do many times.
func TestEditsAreLogged(t *testing.T) {
	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	a := withWebs(1).api(t, Options{Registerer: metrics, Gatherer: metrics, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for request, want := range map[string]string{
		"PUT /v1/services/web/instances/w":            "level=INFO msg=write caller=anonymous by=\"\" scope=register method=PUT",
		"DELETE /v1/services/web/instances/none":      "status=404",
		"PATCH /v1/services/web/instances/w/override": "method=PATCH",
		"PUT /v1/kv/a":                          "",
		"GET /v1/lookup/web":                    "",
		"PUT /v1/services/web/instances/w/load": "",
		"PUT /v1/services/web/instances/w%0Ab":  "path=/v1/services/web/instances/w%0Ab",
	} {
		t.Run(request, func(t *testing.T) {
			log.Reset()
			method, path, _ := strings.Cut(request, " ")
			ask(a, method, path, "", []byte("{}"))
			if got := log.String(); !strings.Contains(got, want) || strings.Count(got, "\n") > 1 || (got == "") != (want == "") {
				t.Errorf("the log has %q, want %q", got, want)
			}
		})
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "disc_http_access_total" {
			t.Errorf("requests that took no scope are counted: %v", f)
		}
	}
}
