package cli

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"disc/agent/access"
)

// entryOf returns the token in what the config file of the agent needs.
func entryOf(t *testing.T, text string) access.Token {
	t.Helper()
	var file struct {
		HTTP struct{ Tokens []access.Token }
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil || len(file.HTTP.Tokens) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	return file.HTTP.Tokens[0]
}

func TestToken(t *testing.T) {
	term := newTerminal(t)
	code, out, errs := runs(term, "token", "ci", "--scope", "register:web-*", "--scope", "kv:a: b, [c]/")
	token, one := strings.CutSuffix(out, "\n")
	if code != 0 || !one || strings.Contains(token, "\n") || !strings.HasPrefix(token, "disc_") {
		t.Fatalf("%d %q %s", code, out, errs)
	}
	notice, entry, _ := strings.Cut(errs, "\n")
	if !strings.Contains(notice, "config file") || strings.Contains(errs, token) {
		t.Errorf("%s", errs)
	}
	got := entryOf(t, entry)
	if got.Name != "ci" || got.SHA256 != access.DigestOf(token) || len(got.Scopes) != 2 || got.Scopes[1].String() != "kv:a: b, [c]/" {
		t.Errorf("%v of %s", got, entry)
	}
}

func TestTokenToAFile(t *testing.T) {
	term, path := newTerminal(t), filepath.Join(t.TempDir(), "token")
	entry := entryOf(t, term.ok("token", "ops", "--scope", "all", "--file", path))
	b, err := os.ReadFile(path)
	if err != nil || entry.SHA256 != access.DigestOf(strings.TrimSpace(string(b))) {
		t.Errorf("%v: %s", err, b)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if code, out, errs := runs(term, "token", "ops", "--scope", "all", "--file", path); code != exitFailed || out != "" || !strings.Contains(errs, "file exists") {
		t.Errorf("over a file that is there: %d %s%s", code, out, errs)
	}
}

func TestTokenUsage(t *testing.T) {
	term := newTerminal(t)
	for args, want := range map[string]string{
		"ci":                    "give at least one --scope",
		"ci --scope write":      `scope "write" is unknown`,
		"anonymous --scope all": "means callers without a token",
		"ci --scope kv:app/*":   "write app/",
		"":                      "an argument is missing",
		"ci more --scope read":  "2 arguments are given",
	} {
		t.Run(args, func(t *testing.T) {
			if code, out, errs := runs(term, append([]string{"token"}, strings.Fields(args)...)...); code != exitUsage || out != "" || !strings.Contains(errs, want) {
				t.Errorf("%d %s%s", code, out, errs)
			}
		})
	}
}

func runs(term *terminal, args ...string) (code int, out, errs string) {
	r := term.disc(args...)
	return r.code, r.out, r.stderr
}

// TestTokenIsSent looks at what an agent gets, and that the token is shown nowhere.
func TestTokenIsSent(t *testing.T) {
	const token = "disc_not-to-be-shown"
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		env  map[string]string
		sent string // "": no request
		want string
	}{
		"none":            {sent: "-"},
		"a flag":          {args: []string{"--token", token}, sent: "Bearer " + token},
		"a variable":      {env: map[string]string{"DISC_TOKEN": token}, sent: "Bearer " + token},
		"a file":          {env: map[string]string{"DISC_TOKEN_FILE": secret}, sent: "Bearer " + token},
		"the agent's":     {env: map[string]string{"DISC_HTTP_TOKEN_FILE": secret}, sent: "Bearer " + token},
		"flag, verbosely": {args: []string{"--token", token, "-v"}, sent: "Bearer " + token},
		"with a blank":    {env: map[string]string{"DISC_TOKEN": token + " x"}, want: "env DISC_TOKEN: cli.token: has a blank"},
		"elsewhere":       {env: map[string]string{"DISC_TOKEN": token}, args: []string{"--agent", "http://192.0.2.1:1"}, want: "the token is not sent without TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			var sent string
			agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sent = cmp.Or(r.Header.Get("Authorization"), "-")
				fmt.Fprint(w, `{"settings":[],"registrations":[]}`)
			}))
			defer agent.Close()
			term := newTerminal(t)
			maps.Copy(term.env, c.env)
			term.env["DISC_AGENT"] = agent.URL
			for _, command := range []string{"status", "config view"} {
				r := term.disc(append(strings.Fields(command), c.args...)...)
				if strings.Contains(r.out+r.stderr, token) {
					t.Errorf("%s shows the token: %s%s", command, r.out, r.stderr)
				}
				if command == "status" && (r.code == 0) != (c.want == "") || !strings.Contains(r.stderr, c.want) && command == "status" {
					t.Errorf("%s: %d %s", command, r.code, r.stderr)
				}
			}
			if sent != c.sent {
				t.Errorf("sent %q, want %q", sent, c.sent)
			}
		})
	}
	if r := newTerminal(t).disc("help", "flags"); !strings.Contains(r.out, "others see it in the list of processes") {
		t.Errorf("the help does not say that others see the flag: %s", r.out)
	}
}

// TestNamespaceThatATokenMayNotAsk uses a token that may not read: its command goes on.
func TestNamespaceThatATokenMayNotAsk(t *testing.T) {
	for name, status := range map[string]int{"no token": 401, "another scope": 403} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.URL.Path)
				if r.URL.Path == "/v1/agent" {
					w.WriteHeader(status)
					fmt.Fprint(w, `{"detail":"it lacks scope read"}`)
					return
				}
				fmt.Fprint(w, `{"taken":1}`)
			}))
			defer agent.Close()
			term := newTerminal(t)
			term.env["DISC_AGENT"] = agent.URL
			code, _, errs := runs(term, "limit", "take", "sms", "-n", "blue")
			if code != 0 || strings.Join(asked, " ") != "/v1/agent /v1/limits/sms/take" || !strings.Contains(errs, `it is unknown whether the agent serves namespace "blue": it lacks scope read`) {
				t.Errorf("%d, asked %v: %s", code, asked, errs)
			}
		})
	}
}
