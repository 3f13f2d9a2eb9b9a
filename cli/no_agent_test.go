package cli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// TestNoAgent expects that a command that waits for an agent does not wait for another server
// to become one.
func TestNoAgent(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	template := filepath.Join(t.TempDir(), "web.tmpl")
	if err := os.WriteFile(template, []byte(`{{range service "web"}}{{end}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	term := newTerminal(t)
	term.env["DISC_AGENT"] = web.URL
	for name, args := range map[string][]string{
		"wait":   {"wait", "web"},
		"lock":   {"lock", "nightly", "--", "true"},
		"claim":  {"claim", "web", "--wait", "10m", "--", "true"},
		"render": {"render", template},
	} {
		t.Run(name, func(t *testing.T) {
			term.fails(exitFailed, "what answers there is not an agent", args...)
		})
	}
}
