package agent_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// TestReloadOfTokens has an agent get tokens, other scopes and none again, without a restart.
func TestReloadOfTokens(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	can := func(token, service string) bool {
		t.Helper()
		a.api.Token = token
		_, err := a.api.Register(t.Context(), discovery.Registration{Service: service, ID: service + "-1", Port: 80})
		if err != nil && !errors.Is(err, discovery.ErrForbidden) {
			t.Fatal(err)
		}
		return err == nil
	}
	reload := func(file string) {
		t.Helper()
		if err := a.Reload(t.Context(), settings(t, etcd.Endpoint(), file)); err != nil {
			t.Fatal(err)
		}
	}
	if !can("", "web") {
		t.Error("without tokens, a caller may not write")
	}
	hash := access.DigestOf("secret").Hex()
	reload("http:\n  tokens: [{name: ci, sha256: " + hash + ", scopes: [\"register:web\"]}]\n")
	if can("", "web") || can("other", "web") || !can("secret", "web") || can("secret", "db") {
		t.Error("with a token, not its scopes count")
	}
	status, err := a.api.Agent(t.Context())
	if err != nil || len(status.Settings) > 0 {
		t.Errorf("settings without the scope: %v, %v", status.Settings, err)
	}
	reload("http:\n  tokens: [{name: ci, sha256: " + hash + ", scopes: [register, status]}]\n")
	if !can("secret", "db") {
		t.Error("a further scope is not in force")
	}
	if status, err = a.api.Agent(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := slices.IndexFunc(status.Settings, func(s api.Setting) bool { return s.Name == "http.tokens[0]" }); at < 0 || status.Settings[at].Value != "ci: register,status" {
		t.Errorf("the token is not among the settings, or shown otherwise: %v", status.Settings)
	}
	reload("http: {tokens: [], anonymous: none}\n")
	a.api.Token = ""
	if _, _, err := a.api.Services(t.Context(), api.Wait{}); !errors.Is(err, discovery.ErrForbidden) {
		t.Errorf("everybody may read: %v", err)
	}
	if resp, err := http.Get(a.api.BaseURL + "/v1/lookup/web"); err != nil || resp.StatusCode != 401 {
		t.Errorf("the fast path answers everybody: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	reload("http: {anonymous: auto}\n")
	if !can("", "web") {
		t.Error("without tokens again, a caller may not write")
	}
}

// TestReloadThatOpensWrites refuses settings whose listener would be safe, while the one that
// is open is not.
func TestReloadThatOpensWrites(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := settings(t, etcd.Endpoint(), "http: {token_file: "+token+"}\n")
	cfg.HTTP.Listen, cfg.HTTP.AllowPlaintext = "0.0.0.0:0", true
	a := start(t, cfg)
	if err := a.Reload(t.Context(), settings(t, etcd.Endpoint(), "")); err == nil || !strings.Contains(err.Error(), "0.0.0.0:0 is reachable from other hosts, which could write") {
		t.Errorf("reload: %v", err)
	}
	if _, err := a.api.Register(t.Context(), discovery.Registration{Service: "web", ID: "web-1"}); !errors.Is(err, discovery.ErrForbidden) {
		t.Errorf("after the refused reload: %v", err)
	}
	if err := a.Reload(t.Context(), settings(t, etcd.Endpoint(), "http: {token_file: \"\", anonymous: [read]}\n")); err != nil {
		t.Errorf("reload to reads for everybody: %v", err)
	}
}
