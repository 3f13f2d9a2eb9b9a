package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"disc/cli"
	"disc/config"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
)

// permission is a row of the table in docs/production.md: what a role must be allowed to write below the
// prefix of its namespace, besides reading all of it.
type permission struct {
	to    string
	write []string
	use   func(a *guardedAgent) bool // does what the row is for, as often as it is called; true: it is done
}

// permissions is the table. The rights of the first two rows are those of an agent that registers the
// service web; the others come on top.
var permissions = []permission{
	{"run an agent", []string{"nodes/<node>/", "epoch", "base", "quarantine"}, (*guardedAgent).surviveAWipe},
	{"register a service", []string{"services/<service>/instances/"}, func(a *guardedAgent) bool { return a.commands("status", "lookup web") }},
	{"report its load", []string{"services/<service>/load/"}, func(a *guardedAgent) bool {
		return a.commands("status") && a.put("/v1/services/web/instances/web-1/load", `{"utilization":0.5}`) && a.exists("services/web/load/web-1")
	}},
	{"edit its instances", []string{"services/<service>/overrides/", "services/<service>/static/"}, func(a *guardedAgent) bool {
		return a.commands("status", "set web/two 10.0.0.9:1", "unset web/two", "set web/web-1 --weight 5")
	}},
	{"write keys", []string{"kv/"}, func(a *guardedAgent) bool {
		return a.put("/v1/kv/app/a?ttl=1h", "a") && a.put("/v1/kv/app/a", "b") && a.commands("kv set app/a c", "kv del app/a")
	}},
	{"keep the keys within their bounds", []string{"usage/"}, func(a *guardedAgent) bool { return a.put("/v1/kv/app/a", "a") && a.exists("usage/kv") }},
	{"hold locks", []string{"locks/"}, func(a *guardedAgent) bool { return a.commands("lock migration -- true") }},
	{"claim instances", []string{"claims/"}, func(a *guardedAgent) bool { return a.commands("wait web", "claim web -- true") }},
	{"take from limits", []string{"ledger/"}, func(a *guardedAgent) bool { return a.commands("limit take shared") }},
	{"set limits", []string{"limits/", "ledger/"}, func(a *guardedAgent) bool { return a.commands("limit set api 5/1s", "limit del api") }},
	{"raise the feature level", []string{"level/"}, func(a *guardedAgent) bool { return a.commands("status") && a.exists("level/state") }},
	{"judge its suspects", []string{"services/<service>/suspects/"}, func(a *guardedAgent) bool {
		_, err := a.root.Put(a.t.Context(), a.prefix+"level/state", `{"level":2}`) // it needs all agents to know orders
		return err == nil && a.commands("status", "suspects keep web/two --agent http://127.0.0.1:1")
	}},
	{"set the length of quarantines", []string{"settings/quarantine"}, func(a *guardedAgent) bool { return a.put("/v1/quarantine?length=30s", "") }},
}

// TestPermissions runs agents as users of etcd whose roles have what docs/production.md lists. Each row is
// enough for what it says. Without one of its rights, the error names that right.
func TestPermissions(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../docs/production.md")
	if err != nil {
		t.Fatal(err)
	}
	g := newGuardedEtcd(t)
	always := slices.Concat(permissions[0].write, permissions[1].write)
	for n, row := range permissions {
		t.Run(row.to, func(t *testing.T) {
			if line := fmt.Sprintf("| %s | `%s` |", row.to, strings.Join(row.write, "`, `")); !strings.Contains(string(docs), line) {
				t.Errorf("docs/production.md lacks the line\n%s", line)
			}
			allowed := slices.Concat(always, row.write)
			if row.to == "keep the keys within their bounds" {
				allowed = append(allowed, "kv/")
			}
			for m, missing := range row.write {
				a := g.start(t, fmt.Sprintf("without-%d-%d", n, m), slices.DeleteFunc(slices.Clone(allowed), func(w string) bool { return w == missing }))
				key := a.prefix + place(missing)
				if !await(func() bool {
					row.use(a)
					return strings.Contains(a.said.String(), key)
				}) {
					t.Errorf("without %s nothing names it:\n%s", key, a.said.String())
				}
			}
			a := g.start(t, fmt.Sprintf("with-%d", n), allowed)
			if !await(func() bool { return row.use(a) }) {
				t.Errorf("not done with %v:\n%s", allowed, a.said.String())
			}
		})
	}
}

// place fills in the placeholders of a row.
func place(key string) string {
	return strings.NewReplacer("<node>", "n1", "<service>", "web").Replace(key)
}

// guardedEtcd is an etcd with authentication.
type guardedEtcd struct {
	endpoint string
	root     *clientv3.Client
}

func newGuardedEtcd(t *testing.T) guardedEtcd {
	t.Helper()
	server := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.BcryptCost = 4 }}) // the least
	open := etcdtest.Client(t, server.Endpoint())
	for _, err := range []error{
		errorOf(open.RoleAdd(t.Context(), "root")), errorOf(open.UserAdd(t.Context(), "root", "s3cret")),
		errorOf(open.UserGrantRole(t.Context(), "root", "root")), errorOf(open.AuthEnable(t.Context())),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := etcd.Dial(t.Context(), etcd.Config{Endpoints: []string{server.Endpoint()},
		Credentials: func(context.Context) (string, string, error) { return "root", "s3cret", nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return guardedEtcd{server.Endpoint(), root}
}

// guardedAgent is an agent in a namespace of its own, whose user may read that, and write only what is
// granted.
type guardedAgent struct {
	program
	t      *testing.T
	root   *clientv3.Client
	prefix string // of the namespace
	said   buffer // what the agent logs and the commands print
	wiped  bool
}

// start runs an agent until the test ends. name is that of its namespace, its user and its role.
func (g guardedEtcd) start(t *testing.T, name string, write []string) *guardedAgent {
	t.Helper()
	a := &guardedAgent{program: newProgram(t, g.endpoint).ready(t), t: t, root: g.root, prefix: "/disc/v1/" + name + "/"}
	token := t.TempDir() + "/token"
	errs := []error{
		os.WriteFile(token, []byte("t0ken"), 0o600),
		os.WriteFile(a.env["DISC_CONFIG"], []byte("services:\n- {service: web, id: web-1, port: 80, address: 10.0.0.1}\n"), 0o600),
		errorOf(g.root.UserAdd(t.Context(), name, "s3cret")), errorOf(g.root.RoleAdd(t.Context(), name)), errorOf(g.root.UserGrantRole(t.Context(), name, name)),
		errorOf(g.root.Put(t.Context(), a.prefix+"limits/shared", `{"rate":5,"per":"1s","burst":50}`)),
		errorOf(g.root.RoleGrantPermission(t.Context(), name, a.prefix, clientv3.GetPrefixRangeEnd(a.prefix), clientv3.PermissionType(clientv3.PermRead))),
	}
	for _, w := range write {
		key, end := a.prefix+place(w), ""
		if strings.HasSuffix(key, "/") {
			end = clientv3.GetPrefixRangeEnd(key)
		}
		errs = append(errs, errorOf(g.root.RoleGrantPermission(t.Context(), name, key, end, clientv3.PermissionType(clientv3.PermWrite))))
	}
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	a.env["DISC_USER"], a.env["DISC_NAMESPACE"] = name+":s3cret", name
	if name == fmt.Sprintf("with-%d", len(permissions)-1) || strings.HasPrefix(name, fmt.Sprintf("without-%d-", len(permissions)-1)) {
		a.env["DISC_HTTP_TOKEN_FILE"] = token // the last row needs it
	}
	a.run(t)
	return a
}

func (a *guardedAgent) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cli.Main(ctx, []string{"agent"}, &cli.IO{In: strings.NewReader(""), Out: &a.said, Err: &a.said, Host: config.Host{Hostname: "n1", EUID: 1,
			Env: func(name string) (string, bool) { v, ok := a.env[name]; return v, ok }}})
	}()
	t.Cleanup(func() { cancel(); <-ended })
}

// commands runs commands until one fails, and reports whether all succeeded.
func (a *guardedAgent) commands(lines ...string) bool {
	for _, line := range lines {
		code, stdout, stderr := a.program.run(a.t.Context(), strings.Fields(line)...)
		fmt.Fprintf(&a.said, "$ disc %s\n%s%s", line, stdout, stderr)
		if code != 0 {
			return false
		}
	}
	return true
}

// put sends a PUT to the agent, and reports whether it succeeded.
func (a *guardedAgent) put(path, body string) bool {
	request, err := http.NewRequestWithContext(a.t.Context(), http.MethodPut, a.env["DISC_AGENT"]+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer t0ken")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false // it does not listen yet
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	fmt.Fprintf(&a.said, "PUT %s: %s %s\n", path, response.Status, text)
	return response.StatusCode < 300
}

// exists reports whether there is a key in the agent's namespace.
func (a *guardedAgent) exists(key string) bool {
	r, err := a.root.Get(a.t.Context(), a.prefix+key, clientv3.WithCountOnly())
	return err == nil && r.Count > 0
}

// surviveAWipe waits until the agent runs, takes the epoch away, as a wipe of etcd does, and waits for
// the quarantine that follows.
func (a *guardedAgent) surviveAWipe() bool {
	if !a.commands("status") {
		return false
	}
	if !a.wiped {
		_, err := a.root.Delete(a.t.Context(), a.prefix+"epoch")
		a.wiped = err == nil
	}
	return a.exists("epoch") && a.exists("base") && a.exists("quarantine")
}
