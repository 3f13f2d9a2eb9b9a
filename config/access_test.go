package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"disc/agent/access"
	"disc/config"
)

// The SHA-256 of two tokens.
var hash, hash2 = access.DigestOf("ci-token").Hex(), access.DigestOf("app-token").Hex()

func TestTokensOfTheFile(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "token")
	write(t, secret, "from-file\n")
	c := load(t, "http:\n  token_file: "+secret+"\n  tokens:\n    - {name: ci, sha256: "+hash+", scopes: [register, \"kv:app/\"]}\n"+
		"    - name: app\n      sha256: "+strings.ToUpper(hash2)+"\n      scopes: [take]\n", nil)
	p, err := c.HTTP.Policy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for token, name := range map[string]string{"ci-token": "ci", "app-token": "app", "from-file": "token_file", "": "anonymous"} {
		t.Run(name, func(t *testing.T) {
			caller, err := p.Authorize(access.Credentials{Token: token}, access.Read, "")
			if err != nil || caller.Name != name || caller.Allows(access.Operate, "") != (name == "token_file") || caller.Allows(access.KV, "app/x") != (name == "ci" || name == "token_file") {
				t.Errorf("%q, %v", caller.Name, err)
			}
		})
	}
	got := shown(c)
	for key, want := range map[string]string{
		"http.tokens[0]": "ci: register,kv:app/ · file config.yaml:4",
		"http.tokens[1]": "app: take · file config.yaml:5",
		"http.anonymous": "auto · default",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	if text := fmt.Sprintf("%+v %#v %v", c, c, got); strings.Contains(strings.ToLower(text), hash2[:16]) || strings.Contains(text, "from-file") {
		t.Errorf("a hash or a token is shown: %s", text)
	}
}

func TestWhetherThereIsAPolicy(t *testing.T) {
	if p, err := load(t, "", nil).HTTP.Policy(t.Context()); p != nil || err != nil {
		t.Errorf("by default: %v, %v", p, err)
	}
	if got := shown(load(t, "http: {anonymous: []}\n", nil))["http.anonymous"]; got != "none · file config.yaml:1" {
		t.Errorf("an empty list is %q", got)
	}
	for texts, want := range map[string]struct {
		shown                 string
		reads, writes, status bool
	}{
		"":                   {"auto", true, true, true}, // no policy: nothing is restricted
		"none":               {"none", false, false, false},
		"read":               {"read", true, false, false},
		"read, kv:app/,take": {"read,kv:app/,take", true, true, false},
		"all":                {"all", true, true, true},
	} {
		t.Run(texts, func(t *testing.T) {
			c := load(t, "", map[string]string{"DISC_HTTP_ANONYMOUS": texts})
			p, err := c.HTTP.Policy(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := shown(c)["http.anonymous"]; !strings.HasPrefix(got, want.shown+" · ") {
				t.Errorf("shown as %q", got)
			}
			for a, wants := range map[access.Action]bool{access.Read: want.reads, access.KV: want.writes, access.Status: want.status} {
				if got := p == nil || p.Allowed(a, "app/x"); got != wants {
					t.Errorf("%v: %v", a, got)
				}
			}
		})
	}
}

func TestBadTokens(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"nothing", "http:\n  tokens:\n    - {}\n  tls: {cert: /dev/null, key: /dev/null, client_ca: /dev/null}\n  clients: [{}]\n", `
F:3: http.tokens[0]: name is missing; it says in the log who did what
F:3: http.tokens[0]: scopes is missing; list all, or some of read, status, register, operate, kv-read, kv, lock, claim, take
F:3: http.tokens[0]: sha256 is missing; 'disc token NAME' makes a token, and this entry
F:5: http.clients[0]: name is missing; give the URI or the common name of the certificate
F:5: http.clients[0]: scopes is missing; list all, or some of read, status, register, operate, kv-read, kv, lock, claim, take`},
		{"wrong", "http:\n  tokens:\n    - name: anonymous\n      sha256: hunter2\n      scopes: [write, \"read:web\"]\n      expires: 1h\n", `
F:3: http.tokens[0].name: name "anonymous" means callers without a token; give another
F:4: http.tokens[0].sha256: the value is not the SHA-256 of a token in 64 hexadecimal digits; 'disc token' makes both
F:5: http.tokens[0].scopes[0]: scope "write" is unknown; use all, read, status, register, operate, kv-read, kv, lock, claim, take
F:5: http.tokens[0].scopes[1]: scope "read:web": read is for everything; leave out what follows the colon
F:6: http.tokens[0].expires: unknown key`},
		{"twice", "http:\n  tokens:\n    - {name: a, sha256: " + hash + ", scopes: [all]}\n    - {name: a, sha256: " + hash2 + ", scopes: [all]}\n    - {name: b, sha256: " + hash + ", scopes: [all]}\n    - {name: token_file, sha256: " + hash[1:] + "0, scopes: [all]}\n", `
F:4: http.tokens[1].name: name "a" is already in line 3; give each its own
F:5: http.tokens[2].sha256: "a" has the same token; give each its own
F:6: http.tokens[3].name: name "token_file" is that of the token in http.token_file; give another`},
		{"the hash of nothing", "http:\n  tokens: [{name: a, sha256: " + access.DigestOf("").Hex() + ", scopes: [all]}]\n", `
F:2: http.tokens[0].sha256: the value is the SHA-256 of an empty text; 'disc token' makes a token and its hash`},
		{"no list", "http: {tokens: {a: b}}\n", `
F:1: http.tokens: a map is given where a list is expected`},
		{"clients without a CA", "http:\n  clients: [{name: \"spiffe://a/b\", scopes: [all]}]\n", `
F:2: http.clients: set http.tls.client_ca too, the CA certificates that verify those of the clients`},
		{"a CA without clients", "http:\n  tls: {cert: /dev/null, key: /dev/null, client_ca: /dev/null}\n", `
F:2: http.tls.client_ca: has no effect: http.clients is empty; list there whose certificates may do what`},
		{"a CA without TLS", "http:\n  tls: {client_ca: /dev/null}\n", `
F:2: http.tls.client_ca: has no effect without TLS; set http.tls.cert and http.tls.key`},
		{"a star", "http:\n  tls: {cert: /dev/null, key: /dev/null, client_ca: /dev/null}\n  clients: [{name: \"host-*\", scopes: [all]}]\n", `
F:3: http.clients[0].name: name "host-*": a star stands alone, for every certificate, or after the last slash of a URI, as in spiffe://example.org/prod/*`},
		{"no such key", "http: {token: a}\n", `
F:1: http.token: unknown key; did you mean tokens?`},
	} {
		t.Run(tt.name, func(t *testing.T) { wantError(t, tt.content, nil, tt.want) })
	}
}

func TestTokenFileThatHasNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	c := &config.Config{HTTP: config.HTTP{TokenFile: file}}
	if _, err := c.HTTP.Policy(t.Context()); !os.IsNotExist(unwrap(err)) {
		t.Errorf("%v", err)
	}
	write(t, file, " \n")
	if _, err := c.HTTP.Policy(t.Context()); err == nil || !strings.Contains(err.Error(), "is empty: write a token into it") {
		t.Errorf("%v", err)
	}
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return err
}

// TestTokenOfTheCommandLine tests where the command line takes its token from.
func TestTokenOfTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	cli, agent := filepath.Join(dir, "cli"), filepath.Join(dir, "agent")
	write(t, cli, "of-cli\n")
	write(t, agent, "of-agent\n")
	for _, tt := range []struct {
		name, content string
		env           map[string]string
		args          []string
		want          string
	}{
		{name: "none"},
		{name: "the agent's own", content: "http: {token_file: " + agent + "}\n", want: "of-agent"},
		{name: "a file", content: "http: {token_file: " + agent + "}\ncli: {token_file: " + cli + "}\n", want: "of-cli"},
		{name: "a variable", content: "cli: {token_file: " + cli + "}\n", env: map[string]string{"DISC_TOKEN": "of-variable"}, want: "of-variable"},
		{name: "a flag", content: "cli: {token_file: " + cli + "}\n", env: map[string]string{"DISC_TOKEN": "of-variable"}, args: []string{"--token", "of-flag"}, want: "of-flag"},
		{name: "a file by a flag", args: []string{"--token-file", cli}, want: "of-cli"},
		{name: "a file by a flag, and a variable", env: map[string]string{"DISC_TOKEN": "of-variable"}, args: []string{"--token-file", cli}, want: "of-cli"},
		{name: "a file by a variable, and a variable", env: map[string]string{"DISC_TOKEN": "of-variable", "DISC_TOKEN_FILE": cli}, want: "of-variable"},
		{name: "both flags", args: []string{"--token-file", cli, "--token", "of-flag"}, want: "of-flag"},
		{name: "a flag and no file", env: map[string]string{"DISC_TOKEN": "of-variable"}, args: []string{"--token-file="}, want: "of-variable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, tt.content, tt.env, tt.args...)
			if got, err := c.AgentToken(t.Context()); got != tt.want || err != nil {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
			if text := fmt.Sprintf("%+v %v", c, shown(c)); strings.Contains(text, "of-flag") || strings.Contains(text, "of-variable") {
				t.Errorf("the token is shown: %s", text)
			}
		})
	}
	write(t, cli, " \n")
	c := load(t, "http: {token_file: "+agent+"}\ncli: {token_file: "+cli+"}\n", nil)
	if got, err := c.AgentToken(t.Context()); got != "" || err == nil || !strings.Contains(err.Error(), "cli.token_file "+cli+" is empty") {
		t.Errorf("an empty file: %q, %v", got, err)
	}
	wantError(t, "cli: {token: a}\n", nil, "\nF:1: cli.token: unknown key")
}
