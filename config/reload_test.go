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
	before := "zone: a\nhttp:\n  tokens: [{name: ci, sha256: " + hash + ", scopes: [all]}]\nservices: [{service: web, port: 80}]\n"
	for _, tt := range []struct{ name, before, after, want string }{
		{"empty", before, "", "F: the config file is empty"},
		{"comments", before, "# disc\n\n# services\n", "F: the config file is empty"},
		{"begin of a document", before, "---\n", "F: the config file is empty"},
		{"null", before, "null\n", "F: the config file is empty"},
		{"cut off before the services", before, "zone: a\n", "F: services is missing, and the file before had 1; write services: [] for none"},
		{"cut off after services", before, "zone: a\nservices:\n", "F:2: services: has no value, as where a file is cut off; write [] for none"},
		{"cut off after services, of which there were none", "zone: a\n", "zone: a\nservices:\n", "F:2: services: has no value"},
		{"cut off in a service", before, "services:\n  - service: web\n    port: 80\n    checks:\n", "F:4: services[0].checks: has no value, as where a file is cut off; give one, or remove the key"},
		{"cut off in a check", before, "services:\n  - service: web\n    checks:\n      - type: http\n        url: http://127.0.0.1/\n        headers:\n", "F:6: services[0].checks[0].headers: "},
		{"cut off after http", before, "services: []\nhttp:\n", "F:2: http: has no value"},
		{"cut off after tokens", before, "services: []\nhttp:\n  tokens:\n", "F:3: http.tokens: has no value, as where a file is cut off; write [] for none"},
		{"cut off after clients", before, "services: []\nhttp:\n  clients:\n", "F:3: http.clients: has no value"},
		{"cut off after the file of a token", before, "services: []\nhttp:\n  token_file:\n", "F:3: http.token_file: has no value"},
		{"cut off after anonymous", before, "services: []\nhttp:\n  anonymous:\n", "F:3: http.anonymous: has no value"},
		{"an alias of nothing", before, "zone: &none\nservices: *none\n", "F:2: services: has no value"},
		{"no services", before, "services: []\n", ""},
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
