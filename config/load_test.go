package config_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"disc/config"
	"disc/discovery"
)

// host returns a host with only the given variables and an empty home directory.
func host(t *testing.T, env map[string]string) config.Host {
	t.Helper()
	home := t.TempDir()
	return config.Host{Hostname: "host-1", EUID: 1000, Env: func(name string) (string, bool) {
		if v, ok := env[name]; ok {
			return v, true
		}
		return home, name == "HOME"
	}}
}

// flags parses a command line. It knows every flag.
func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("disc", pflag.ContinueOnError)
	config.AddFlags(fs, config.Global, config.Agent)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

// file writes a config file and returns its path.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, content)
	return path
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, content string, env map[string]string, args ...string) *config.Config {
	t.Helper()
	c, err := config.Load(t.Context(), flags(t, append(args, "--config", file(t, content))...), host(t, env))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shown returns the value and origin of each setting, the file's path shortened.
func shown(c *config.Config) map[string]string {
	all := map[string]string{}
	for _, s := range c.Settings() {
		all[s.Key] = s.Value + " · " + strings.ReplaceAll(s.Origin, filepath.Dir(c.File)+"/", "")
	}
	return all
}

func TestPrecedence(t *testing.T) {
	const content = "zone: from-file\nsession: {ttl: 20s}\netcd:\n  endpoints: [f1:1, f2:2]\ndns: {prefer_zone: true}\nlog: {level: warn}\n"
	for _, tt := range []struct {
		name, content string
		env           map[string]string
		args          []string
		want          map[string]string
	}{
		{name: "default", want: map[string]string{
			"zone": " · default", "session.ttl": "15s · default", "etcd.endpoints": "127.0.0.1:2379 · default",
			"node": "host-1 · default", "dns.prefer_zone": "false · default", "log.level": "info · default",
		}},
		{name: "shared directories", content: "allow_shared_dirs: true\n", want: map[string]string{"allow_shared_dirs": "true · file config.yaml:1"}},
		{name: "networks", content: "dns:\n  networks: [10.0.0.0/8, 192.0.2.1, \"2001:db8::/32\", \"::ffff:192.0.2.2\"]\n  rate_limit: 50\n", want: map[string]string{
			"dns.networks": "10.0.0.0/8,192.0.2.1/32,2001:db8::/32,192.0.2.2/32 · file config.yaml:2", "dns.rate_limit": "50 · file config.yaml:3",
		}},
		{name: "file", content: content, want: map[string]string{
			"zone": "from-file · file config.yaml:1", "session.ttl": "20s · file config.yaml:2",
			"etcd.endpoints": "f1:1,f2:2 · file config.yaml:4", "dns.prefer_zone": "true · file config.yaml:5",
			"log.level": "warn · file config.yaml:6",
		}},
		{name: "environment", content: content, env: map[string]string{
			"DISC_ZONE": "from-env", "DISC_SESSION_TTL": "30s", "DISC_ENDPOINTS": " e1:1 , e2:2", "DISC_DNS_PREFER_ZONE": "false",
		}, want: map[string]string{
			"zone": "from-env · env DISC_ZONE", "session.ttl": "30s · env DISC_SESSION_TTL",
			"etcd.endpoints": "e1:1,e2:2 · env DISC_ENDPOINTS", "dns.prefer_zone": "false · env DISC_DNS_PREFER_ZONE",
		}},
		{name: "flag", content: content, env: map[string]string{"DISC_ZONE": "from-env", "DISC_ENDPOINTS": "e1:1"},
			args: []string{"--zone", "from-flag", "--endpoints", "a1:1, a2:2", "--endpoints", "a3:3"},
			want: map[string]string{
				"zone": "from-flag · flag --zone", "etcd.endpoints": "a1:1,a2:2,a3:3 · flag --endpoints",
			}},
		{name: "an empty variable is absent", content: content, env: map[string]string{"DISC_ZONE": ""},
			want: map[string]string{"zone": "from-file · file config.yaml:1"}},
		{name: "an empty flag is given", content: content, args: []string{"--zone", ""},
			want: map[string]string{"zone": " · flag --zone"}},
		{name: "a flag that says false is given", env: map[string]string{"DISC_NO_COLOR": "true"}, args: []string{"--no-color=false"},
			want: map[string]string{"cli.no_color": "false · flag --no-color"}},
		{name: "a flag's brackets are its own", args: []string{"--endpoints", "[::1]:2379,[::2]:2379", "--watch", "web,api"},
			want: map[string]string{
				"etcd.endpoints": "[::1]:2379,[::2]:2379 · flag --endpoints", "catalog.watch": "web,api · flag --watch",
			}},
		{name: "a key without a value is absent", content: "zone:\nsession:\nservices:\n",
			want: map[string]string{"zone": " · default", "session.ttl": "15s · default"}},
		{name: "verbose raises the log's level", content: content, args: []string{"-v"},
			want: map[string]string{"log.level": "debug · flag --verbose"}},
		{name: "the password is not shown", env: map[string]string{"DISC_USER": "root:secret"},
			want: map[string]string{"etcd.user": "root · env DISC_USER"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := shown(load(t, tt.content, tt.env, tt.args...))
			for key, want := range tt.want {
				if got[key] != want {
					t.Errorf("%s is %q, want %q", key, got[key], want)
				}
			}
		})
	}
}

func TestExplicit(t *testing.T) {
	c := load(t, "node: n\n", map[string]string{"DISC_ZONE": "b"}, "--namespace", "blue")
	for key, want := range map[string]bool{"namespace": true, "zone": true, "node": false, "session.ttl": false} {
		t.Run(key, func(t *testing.T) {
			if c.Explicit(key) != want {
				t.Errorf("got %v", !want)
			}
		})
	}
}

// TestForeignFlag expects Load to ignore a command's own flag that has the name of a
// setting's.
func TestForeignFlag(t *testing.T) {
	fs := pflag.NewFlagSet("disc", pflag.ContinueOnError)
	config.AddFlags(fs, config.Global)
	fs.String("zone", "", "a filter")
	if err := fs.Parse([]string{"--zone", "b"}); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(t.Context(), fs, host(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if c.Zone != "" {
		t.Errorf("zone is %q, want none", c.Zone)
	}
}

func TestFileIsFound(t *testing.T) {
	xdg := t.TempDir()
	write(t, filepath.Join(xdg, "disc/config.yaml"), "zone: xdg\n")
	named := file(t, "zone: named\n")
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"XDG_CONFIG_HOME", map[string]string{"XDG_CONFIG_HOME": xdg}, nil, "xdg"},
		{"DISC_CONFIG", map[string]string{"XDG_CONFIG_HOME": xdg, "DISC_CONFIG": named}, nil, "named"},
		{"--config", map[string]string{"DISC_CONFIG": "/nowhere"}, []string{"--config", named}, "named"},
		{"--config, empty", map[string]string{"XDG_CONFIG_HOME": xdg}, []string{"--config", ""}, ""},
		{"a relative XDG_CONFIG_HOME is ignored", map[string]string{"XDG_CONFIG_HOME": "xdg"}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config.Load(t.Context(), flags(t, tt.args...), host(t, tt.env))
			if err != nil {
				t.Fatal(err)
			}
			if c.Zone != tt.want {
				t.Errorf("zone is %q, want %q (file %q)", c.Zone, tt.want, c.File)
			}
		})
	}
}

func TestHomeConfigFile(t *testing.T) {
	h := host(t, nil)
	home, _ := h.Env("HOME")
	write(t, filepath.Join(home, ".config/disc/config.yaml"), "zone: home\n")
	c, err := config.Load(t.Context(), flags(t), h)
	if err != nil {
		t.Fatal(err)
	}
	if c.Zone != "home" || c.DataDir != filepath.Join(home, ".local/state/disc") {
		t.Errorf("zone %q, data_dir %q", c.Zone, c.DataDir)
	}
}

func TestNamedFileIsMissing(t *testing.T) {
	_, err := config.Load(t.Context(), flags(t, "--config", "/nowhere/config.yaml"), host(t, nil))
	const want = "flag --config: config: read the config file: open /nowhere/config.yaml: no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("%v is no ErrInvalid", err)
	}
}

func TestDataDir(t *testing.T) {
	for _, tt := range []struct {
		name string
		euid int
		env  map[string]string
		want string
	}{
		{"XDG_STATE_HOME", 1000, map[string]string{"XDG_STATE_HOME": "/state"}, "/state/disc"},
		{"HOME", 1000, map[string]string{"HOME": "/home/ann"}, "/home/ann/.local/state/disc"},
		{"a relative XDG_STATE_HOME is ignored", 1000, map[string]string{"HOME": "/home/ann", "XDG_STATE_HOME": "state"}, "/home/ann/.local/state/disc"},
		{"no HOME", 1000, map[string]string{"HOME": ""}, "/var/lib/disc"},
		{"root", 0, map[string]string{"XDG_STATE_HOME": "/state"}, "/var/lib/disc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := host(t, tt.env)
			h.EUID = tt.euid
			c, err := config.Load(t.Context(), flags(t, "--config", ""), h)
			if err != nil {
				t.Fatal(err)
			}
			if c.DataDir != tt.want {
				t.Errorf("data_dir is %q, want %q", c.DataDir, tt.want)
			}
		})
	}
}

// TestLoadAgain loads the same flags twice, with another result after the file has changed.
func TestLoadAgain(t *testing.T) {
	path := file(t, "zone: a\n")
	fs, h := flags(t, "--config", path, "--node", "n"), host(t, nil)
	for _, zone := range []string{"a", "b"} {
		write(t, path, "zone: "+zone+"\n")
		c, err := config.Load(t.Context(), fs, h)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{zone, "n"}, []string{c.Zone, c.Node}); diff != "" {
			t.Error(diff)
		}
	}
}

// TestNetworksOfChecks expects the networks of the file or of the variable, in their order.
func TestNetworksOfChecks(t *testing.T) {
	want := []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16"), netip.MustParsePrefix("fd00:1::/64")}
	for _, tt := range []struct {
		name, file string
		env        map[string]string
	}{
		{name: "file", file: "checks: {networks: [172.17.0.0/16, \"fd00:1::/64\"]}\n"},
		{name: "variable", env: map[string]string{"DISC_CHECKS_NETWORKS": "172.17.0.0/16, fd00:1::/64"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := load(t, tt.file, tt.env).Checks.Networks; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestAdvertiseIsCanonical expects one form of an address, whichever is configured.
func TestAdvertiseIsCanonical(t *testing.T) {
	for given, want := range map[string]string{"::ffff:10.0.0.5": "10.0.0.5", "FD00:0::5": "fd00::5", "Host-1.example.com": "Host-1.example.com"} {
		t.Run(given, func(t *testing.T) {
			if got := load(t, "", nil, "--advertise", given).Advertise; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
