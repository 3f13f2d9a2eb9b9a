package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"disc/config"
)

// TestCheck expects that each file that cannot be used is a line with the place that names it.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := file(t, strings.ReplaceAll(`etcd:
  endpoints: ["https://a:1"]
  cacert: EMPTY
  cert: EMPTY
  key: EMPTY
  user: disc
  password_file: EMPTY
http:
  tls:
    cert: EMPTY
    key: EMPTY
    client_ca: EMPTY
  clients: [{name: a, scopes: [read]}]
  tokens:
services:
  - service: web
    port: 80
    checks:
      - {type: tcp}
      - type: http
        url: https://127.0.0.1
        ca: gone.pem
`, "EMPTY", empty))
	c, err := config.Load(t.Context(), flags(t, "--config", path), host(t, map[string]string{"DISC_HTTP_TOKEN_FILE": empty}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		path + ":3: etcd.cacert: ", path + ":4: etcd.cert: ", path + ":7: etcd.password_file: ",
		path + ":10: http.tls.cert: ", path + ":12: http.tls.client_ca: ",
		path + ":14: http.tokens: has no value", path + ":22: services[0].checks[1].ca: open gone.pem: ",
		"env DISC_HTTP_TOKEN_FILE: http.token_file: " + empty + " is empty: ",
	}
	err = c.Check(t.Context())
	if err == nil {
		t.Fatal("nothing is found")
	}
	got := strings.Split(err.Error(), "\n")
	for n, line := range got {
		if n >= len(want) || !strings.HasPrefix(line, want[n]) {
			t.Errorf("line %d is %q", n, line)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d lines, want %d", len(got), len(want))
	}
}
