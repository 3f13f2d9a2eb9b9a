package httpapi

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// onePage is a page with one file.
type onePage struct{}

func (onePage) Serve(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != "/" && r.URL.Path != "/ui/1/main.js" {
		return false
	}
	_, _ = io.WriteString(w, "the page at "+r.URL.Path)
	return true
}

// plain asks without the checks of answers against the description, which has no page.
func plain(t *testing.T, s *server, method, path string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.address+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(header); n += 2 {
		if header[n] == "Host" {
			r.Host = header[n+1]
		}
		r.Header.Set(header[n], header[n+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

const browserAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

func TestPageIsForBrowsers(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{Page: onePage{}}))
	bare := serve(t, newFleet().api(t, Options{}))
	for _, c := range []struct {
		name, method, path, accept string
		status                     int
	}{
		{"browser", "GET", "/", browserAccept, 200},
		{"browser with a view", "GET", "/?service=web", browserAccept, 200},
		{"head", "HEAD", "/", "text/html", 200},
		{"curl", "GET", "/", "*/*", 404},
		{"json", "GET", "/", "application/json", 404},
		{"json before html", "GET", "/", "application/json, text/html;q=0.5", 404},
		{"text", "GET", "/", "text/plain", 404},
		{"refused html", "GET", "/", "text/html;q=0", 404},
		{"file", "GET", "/ui/1/main.js", "*/*", 200},
		{"unknown file", "GET", "/ui/0/main.js", "*/*", 404},
		{"post", "POST", "/", browserAccept, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, got := plain(t, s, c.method, c.path, "Accept", c.accept)
			if status != c.status || status == 200 && c.method == "GET" && !strings.HasPrefix(got, "the page") {
				t.Errorf("%s %s is answered %d %q, want %d", c.method, c.path, status, got, c.status)
			}
			if status == 200 {
				return
			}
			if before, want := plain(t, bare, c.method, c.path, "Accept", c.accept); status != before || got != want {
				t.Errorf("%s %s is answered %d %q, and without a page %d %q", c.method, c.path, status, got, before, want)
			}
		})
	}
}

// A cache between keeps what a program got apart from the page.
func TestRootVariesWithAccept(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{Page: onePage{}}))
	for _, accept := range []string{browserAccept, "*/*", "application/json"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.address+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if got := answer.Header.Get("Vary"); got != "Accept" {
			t.Errorf("%s: varies with %q", accept, got)
		}
	}
}

// The page is guarded as the API is: against DNS rebinding, and pages of other origins.
func TestPageIsGuarded(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{Page: onePage{}}))
	for _, c := range []struct {
		name   string
		header []string
		status int
	}{
		{"another host", []string{"Host", "evil.example"}, http.StatusMisdirectedRequest},
		{"another origin", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		{"a resource of another site", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, http.StatusForbidden},
		{"a link on another site", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			if status, got := plain(t, s, "GET", "/", append(c.header, "Accept", browserAccept)...); status != c.status {
				t.Errorf("answered %d %q, want %d", status, got, c.status)
			}
		})
	}
}
