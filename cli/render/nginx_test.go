package render_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"disc/cli/render"
	"disc/discovery"
)

// endpoints is a Source whose every lookup answers with the same endpoints.
type endpoints struct {
	fleet
	all []discovery.Endpoint
}

func (e endpoints) Service(context.Context, string) ([]discovery.Endpoint, error) { return e.all, nil }

// shippedNginx is the template that is shipped for nginx.
const shippedNginx = "../../deploy/nginx.ctmpl"

// TestShippedNginx has nginx read the shipped template for whatever can be registered.
func TestShippedNginx(t *testing.T) {
	n := newNginx(t)
	instance := func(address string, port, weight int) discovery.Endpoint {
		return discovery.Endpoint{ID: "web-1", Address: address, Port: port, Weight: weight}
	}
	const nothing = "server 127.0.0.1:1 down;"
	for name, test := range map[string]struct {
		all  []discovery.Endpoint
		want string
	}{
		"none":              {nil, nothing},
		"one":               {[]discovery.Endpoint{instance("10.0.0.1", 80, 1)}, "server 10.0.0.1:80 weight=1;"},
		"no port":           {[]discovery.Endpoint{instance("10.0.0.1", 0, 1)}, nothing},
		"IPv6":              {[]discovery.Endpoint{instance("2001:db8::1", 80, 1)}, "server [2001:db8::1]:80 weight=1;"},
		"IPv4 in IPv6":      {[]discovery.Endpoint{instance("::ffff:10.0.0.1", 80, 1)}, "server [::ffff:10.0.0.1]:80 weight=1;"},
		"a host name":       {[]discovery.Endpoint{instance("no-such-host.invalid", 80, 1)}, nothing},
		"weight 0":          {[]discovery.Endpoint{instance("10.0.0.1", 80, 0)}, "server 10.0.0.1:80 weight=1;"},
		"greatest weight":   {[]discovery.Endpoint{instance("10.0.0.1", 65535, discovery.MaxWeight)}, "server 10.0.0.1:65535 weight=65535;"},
		"twice":             {[]discovery.Endpoint{instance("10.0.0.1", 80, 1), instance("10.0.0.1", 80, 1)}, "weight=1;  # web-1\n    server 10.0.0.1:80"},
		"one is left out":   {[]discovery.Endpoint{instance("host", 80, 1), instance("10.0.0.1", 80, 3)}, "# left out: web-1\n    server 10.0.0.1:80 weight=3;"},
		"whatever there is": {randomEndpoints(5000), "server "},
	} {
		t.Run(name, func(t *testing.T) {
			got := n.render(t, test.all)
			if !strings.Contains(got, test.want) {
				t.Errorf("got\n%.2000s\nwant %q in it", got, test.want)
			}
			n.check(t, got)
		})
	}
}

// randomEndpoints returns endpoints of valid instances, many of them odd ones.
func randomEndpoints(count int) []discovery.Endpoint {
	r := rand.New(rand.NewPCG(1, 2))
	of := func(letters string, most int) string {
		b := []byte{letters[r.IntN(26)]}
		for range r.IntN(most) {
			b = append(b, letters[r.IntN(len(letters))])
		}
		return string(b)
	}
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_."
	var all []discovery.Endpoint
	for len(all) < count {
		i := discovery.Instance{Service: "web", ID: of(letters+":", 127), Port: r.IntN(65536), Weight: r.IntN(discovery.MaxWeight + 1), Slots: 1, Status: discovery.Passing,
			Meta: discovery.Meta{"k": "}\n;{"}, Zone: "a;b{"}
		switch r.IntN(4) {
		case 0:
			i.Address = of(letters, 252)
		case 1:
			i.Address = netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}).String()
		default:
			var b [16]byte
			for n := range b {
				if r.IntN(3) == 0 { // zeros are what notations differ in
					b[n] = byte(r.Uint32())
				}
			}
			i.Address = netip.AddrFrom16(b).String()
		}
		if r.IntN(3) == 0 {
			i.Port, i.Weight = 0, 0
		}
		if i.ValidateStored() == nil { // etcd may have what an earlier version wrote
			all = append(all, discovery.Endpoint{ID: i.ID, Address: i.Address, Port: i.Port, Weight: i.Weight, Zone: i.Zone, Meta: i.Meta, Status: i.Status})
		}
	}
	return all
}

// nginx is the program, and a directory for it.
type nginx struct {
	dir      string
	template *render.Template
}

func newNginx(t *testing.T) *nginx {
	t.Helper()
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip("Debian package nginx-light is not installed")
	}
	text, err := os.ReadFile(shippedNginx)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := render.Parse("nginx.ctmpl", string(text))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "disc-") // the path of a socket in it must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &nginx{dir, parsed}
}

func (n *nginx) render(t *testing.T, all []discovery.Endpoint) string {
	t.Helper()
	got, err := n.template.Execute(t.Context(), endpoints{all: all})
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// command returns the command that runs nginx with a configuration of its http block.
func (n *nginx) command(t *testing.T, http string, args ...string) *exec.Cmd {
	t.Helper()
	main := fmt.Sprintf("daemon off;\nmaster_process off;\npid %[1]s/pid;\nerror_log %[1]s/error.log;\nevents {}\nhttp {\naccess_log off;\n", n.dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		main += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, n.dir, kind)
	}
	file := filepath.Join(n.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(main+http+"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.Command("nginx", append([]string{"-e", filepath.Join(n.dir, "error.log"), "-p", n.dir, "-c", file}, args...)...)
}

// check has nginx check a configuration, as it does before it reloads.
func (n *nginx) check(t *testing.T, http string) {
	t.Helper()
	if out, err := n.command(t, http, "-t").CombinedOutput(); err != nil {
		t.Errorf("%v: %.2000s", err, out)
	}
}
