package config_test

import (
	"os"
	"strings"
	"testing"

	"disc/config"
)

// What a full disk, or an editor in the middle of its work, leaves of a file is refused on a
// reload. What an operator writes is not.
func TestCheckReload(t *testing.T) {
	tokens := "http:\n  tokens: [{name: ci, sha256: " + hash + ", scopes: [all]}]\n"
	before := "zone: a\n" + tokens + "services: [{service: web, port: 80}]\n"
	clients := "http: {clients: [{name: \"spiffe://a/b\", scopes: [all]}], tls: {cert: /dev/null, key: /dev/null, client_ca: /dev/null}}\n"
	tls := "http: {tls: {cert: /dev/null, key: /dev/null}}\n"
	for _, tt := range []struct{ name, before, after, want string }{
		{"empty", before, "", "F: the config file is empty"},
		{"comments", before, "# disc\n\n# services\n", "F: the config file is empty"},
		{"begin of a document", before, "---\n", "F: the config file is empty"},
		{"null", before, "null\n", "F: the config file is empty"},
		{"cut off before the services", before, "zone: a\n" + tokens, "F: services is missing, and the file before had 1; write services: [] for none"},
		{"cut off after services", "services: [{service: web, port: 80}]\n", "zone: a\nservices:\n", "F:2: services: has no value, as where a file is cut off; write [] for none"},
		{"cut off after services, of which there were none", "zone: a\n", "zone: a\nservices:\n", "F:2: services: has no value"},
		{"cut off in a service", before, tokens + "services:\n  - service: web\n    port: 80\n    checks:\n", "F:6: services[0].checks: has no value, as where a file is cut off; give one, or remove the key"},
		{"cut off in a check", before, tokens + "services:\n  - service: web\n    checks:\n      - type: http\n        url: http://127.0.0.1/\n        headers:\n", "F:8: services[0].checks[0].headers: "},
		{"cut off after http", before, "services: []\nhttp:\n", "F: http.tokens is missing, and the file before had 1; write http: {tokens: []} for none"},
		{"cut off before http", before, "services: []\n", "F: http.tokens is missing, and the file before had 1; write http: {tokens: []} for none"},
		{"cut off before both", before, "zone: a\n", "F: services is missing, and the file before had 1; write services: [] for none\nF: http.tokens is missing, and"},
		{"cut off before the clients", clients, tls, "F: http.clients is missing, and the file before had 1; write http: {clients: []} for none"},
		{"cut off before the file of a token", "http: {token_file: /dev/null}\n", "zone: a\n", "F: http.token_file is missing, and the file before had /dev/null; write http: {token_file: \"\"} for none"},
		{"cut off before anonymous", "http: {anonymous: none}\n", "zone: a\n", "F: http.anonymous is missing, and the file before had none; write http: {anonymous: auto} for none"},
		{"no file of a token", "http: {token_file: /dev/null}\n", "http: {token_file: \"\"}\n", ""},
		{"there was no file of a token", "http: {token_file: \"\", anonymous: auto}\n", "zone: a\n", ""},
		{"a section with comments only", "zone: a\n", "zone: a\nhttp:\n  # listen: 0.0.0.0:3472\n", ""},
		{"an element of a map", "zone: a\n", "services: [{service: web, port: 80, meta: {a: }}]\n", ""},
		{"cut off after tokens", before, "services: []\nhttp:\n  tokens:\n", "F:3: http.tokens: has no value, as where a file is cut off; write [] for none"},
		{"cut off after clients", clients, "services: []\nhttp:\n  clients:\n", "F:3: http.clients: has no value"},
		{"cut off after the file of a token", "http: {token_file: /dev/null}\n", "services: []\nhttp:\n  token_file:\n", "F:3: http.token_file: has no value"},
		{"cut off after anonymous", "http: {anonymous: none}\n", "services: []\nhttp:\n  anonymous:\n", "F:3: http.anonymous: has no value"},
		{"an alias of nothing", "services: [{service: web, port: 80}]\n", "zone: &none\nservices: *none\n", "F:2: services: has no value"},
		{"no services", before, tokens + "services: []\n", ""},
		{"no tokens", before, "services: []\nhttp: {tokens: []}\n", ""},
		{"there were none", "zone: a\n", "zone: b\n", ""},
		{"there was nothing", "# disc\n", "", ""},
		{"a key that no reload applies", before, before + "node:\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, tt.after, nil)
			err := c.CheckReload(load(t, tt.before, nil))
			text := ""
			if err != nil {
				text = strings.ReplaceAll(err.Error(), c.File, "F")
			}
			if text != tt.want && (tt.want == "" || !strings.HasPrefix(text, tt.want)) {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
}

// A file that is found by itself is gone while it is being replaced.
func TestReloadWithoutTheFile(t *testing.T) {
	xdg := t.TempDir()
	path := xdg + "/disc/config.yaml"
	write(t, path, "zone: a\n")
	fs, h := flags(t), host(t, map[string]string{"XDG_CONFIG_HOME": xdg})
	before, err := config.Load(t.Context(), fs, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	after, err := config.Load(t.Context(), fs, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := after.CheckReload(before); err == nil || !strings.Contains(err.Error(), path+": the config file is gone") {
		t.Errorf("got %v", err)
	}
}

// At a start, a key without a value counts as absent, and CheckValues names it.
func TestCheckValues(t *testing.T) {
	c := load(t, "zone:\nservices:\n", nil)
	if err := c.CheckValues(); err == nil || err.Error() != c.File+":2: services: has no value, as where a file is cut off; write [] for none" {
		t.Errorf("got %v", err)
	}
	if err := load(t, "zone:\n", nil).CheckValues(); err != nil {
		t.Error(err)
	}
}

// A key whose value in force comes from a variable may stay empty in the file.
func TestReloadWithAVariable(t *testing.T) {
	env := map[string]string{"DISC_HTTP_TOKEN_FILE": "/dev/null"}
	c := load(t, "http:\n  token_file:\n", env)
	if err := c.CheckReload(load(t, "http: {token_file: /dev/zero}\n", env)); err != nil {
		t.Error(err)
	}
}
