package config_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"disc/config"
)

// TestBadFile compares the exact error about a bad file. F is the file's path.
func TestBadFile(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"merges of themselves", "x-m: &a\n  <<: *a\nhttp: {<<: *a}\netcd: &b {<<: [*b]}\ndns: {<<: [{ttl: 1s}, ~]}\n", `
F:2: http.<<: it merges itself
F:4: etcd.<<: it merges itself
F:5: dns.<<: no value is given where keys and values are expected`},
		{"a list that merges itself", "services: &s\n- {service: web, port: 1}\n- {<<: *s, id: two}\n", `
F:3: services[1].<<: it merges itself`},
		{"merges that are none", "http: {<<: 7}\netcd: {<<: [{dial_timeout: 1s}, 8]}\ndns: {<<: {frob: 1}}\n", `
F:1: http.<<: "7" is given where keys and values are expected
F:2: etcd.<<: "8" is given where keys and values are expected
F:3: dns.frob: unknown key`},
		{"unknown keys", "zone: a\netcd:\n  dial_timout: 5s\ndata-dir: /x\nNamespace: x\ngrpc: {port: 1}\nfrobnicate: 1\ncli: {no_color: true}\n", `
F:3: etcd.dial_timout: unknown key; did you mean dial_timeout?
F:4: data-dir: unknown key; did you mean data_dir?
F:5: Namespace: unknown key; did you mean namespace?
F:6: grpc.port: unknown key
F:7: frobnicate: unknown key
F:8: cli.no_color: unknown key`},
		{"syntax", "zone: a\n  node: b\n", `
F:2: not YAML: mapping values are not allowed in this context`},
		{"syntax without a line", "zone: *a\n", `
F: not YAML: unknown anchor 'a' referenced`},
		{"two documents", "zone: a\n---\nzone: b\n", `
F:2: a second document begins; a config file holds only one`},
		{"no map", "- a\n", `
F:1: a list is given where keys and values are expected`},
		{"text alone", "hello\n", `
F:1: "hello" is given where keys and values are expected`},
		{"twice", "zone: a\nnode: b\nzone: c\n", `
F:3: zone: given twice; the first is in line 1`},
		{"wrong types", "zone: [a]\nnode: {a: b}\netcd: [a]\nsession: 15s\ndns: {prefer_zone: \"true\"}\nhttp: {allow_hosts: a.example}\n? [a]\n: b\n", `
F:1: zone: a list is given where text is expected
F:2: node: a map is given where text is expected
F:3: etcd: a list is given where keys and values are expected
F:4: session: "15s" is given where keys and values are expected
F:5: dns.prefer_zone: "true" is given where true or false is expected
F:6: http.allow_hosts: "a.example" is given where a list is expected
F:7: a list is given where a key is expected`},
		{"durations", "session: {ttl: 15}\ncatalog: {stale_after: 0s}\ndrain_delay: -1s\nkill_timeout: soon\ndns: {ttl: 1500ms}\n", `
F:1: session.ttl: "15" is not a duration; write it as 500ms, 10s or 1h30m
F:2: catalog.stale_after: 0s is out of range; use at least 1ms
F:3: drain_delay: -1s is out of range; use at least 0s
F:4: kill_timeout: "soon" is not a duration; write it as 500ms, 10s or 1h30m
F:5: dns.ttl: 1.5s is not a number of whole seconds`},
		{"ranges", "session: {ttl: 4s}\ncatalog: {panic: 1.1}\netcd:\n  dial_timeout: 0s\n", `
F:1: session.ttl: 4s is out of range; use 5s to 1h
F:2: catalog.panic: "1.1" is not a number from 0 to 1
F:4: etcd.dial_timeout: 0s is out of range; use 1ms to 1h`},
		{"not a number", "catalog: {panic: NaN}\n", `
F:1: catalog.panic: "NaN" is not a number from 0 to 1`},
		{"budgets", "kv: {max_bytes: 256MB, max_keys: -1, max_writes_per_second: 1.5}\netcd: {quota: much}\n", `
F:1: kv.max_bytes: "256MB" is not a number of bytes; write it as 256MiB, 2GiB or 65536
F:1: kv.max_keys: "-1" is not a whole number from 0 to 1099511627776
F:1: kv.max_writes_per_second: "1.5" is not a whole number from 0 to 1000000
F:2: etcd.quota: "much" is not a number of bytes; write it as 256MiB, 2GiB or 65536`},
		{"history", "catalog: {history_bytes: 1KiB}\n", `
F:1: catalog.history_bytes: 1KiB is out of range; use 0, or 64KiB to 1GiB`},
		{"networks", "dns: {networks: [10.0.0.0/33, private, \"::ffff:10.0.0.0/104\"], rate_limit: 1000000}\n", `
F:1: dns.networks: "10.0.0.0/33" is not a network; write it as 172.17.0.0/16, fd00:1::/64 or 192.0.2.1
F:1: dns.networks: "private" is not a network; write it as 172.17.0.0/16, fd00:1::/64 or 192.0.2.1
F:1: dns.networks: ::ffff:10.0.0.0/104 is an IPv4 network in IPv6 form; write it as IPv4, such as 172.17.0.0/16
F:1: dns.rate_limit: "1000000" is not a whole number from 0 to 100000; or write auto`},
		{"words", "on_stop: stay\nlog: {level: loud, format: xml}\ncli:\n  output: csv\n  agent: localhost\n", `
F:1: on_stop: "stay" is unknown; use leave or keep
F:2: log.level: "loud" is unknown; use debug, info, warn or error
F:2: log.format: "xml" is unknown; use auto, text or json
F:4: cli.output: "csv" is unknown; use table, wide, json, jsonl, yaml, name, addr, file_sd or template=TEMPLATE
F:5: cli.agent: "localhost" is not the address of an agent; write host:port, https://host:port or unix:///path`},
		{"names", "namespace: a/b\nnode: \"\"\nzone: \"a\\tb\"\nadvertise: 10.0.0.5:80\ndata_dir: \"\"\n", `
F:1: namespace: namespace "a/b" has '/'; use letters, digits and - _ .
F:2: node: node name is empty; give 1 to 253 letters, digits or - _ . :
F:3: zone: "a\tb" is too long or has control characters
F:4: advertise: address "10.0.0.5:80" is neither an IP address nor a host name (the port goes into its own field)
F:5: data_dir: is empty`},
		{"advertise", "advertise: 0.0.0.0\n", `
F:1: advertise: address 0.0.0.0 is unspecified; give the address that callers connect to`},
		{"advertise multicast", "advertise: 224.0.0.1\n", `
F:1: advertise: address 224.0.0.1 is a multicast address; give the address of one host`},
		{"advertise an address of this host alone", "advertise: fe80::1%eth0\n", `
F:1: advertise: address "fe80::1%eth0" is neither an IP address nor a host name (the port goes into its own field)`},
		{"numbers that programs take for addresses", "advertise: 0x7f000001\netcd: {endpoints: [\"0x7f.1:2379\"]}\nhttp: {allow_hosts: [\"2130706433\"], listen: \"127.1:0\"}\ndns: {domain: sd.0x1}\n", `
F:1: advertise: address "0x7f000001" ends in a number, so that programs take it for an IPv4 address; write that one with four decimal numbers, as 127.0.0.1
F:2: etcd.endpoints: "0x7f.1:2379" is not an etcd endpoint; write host:2379, http://host:2379 or https://host:2379
F:3: http.listen: "127.1" is neither an IP address nor a host name
F:3: http.allow_hosts: "2130706433" is neither an IP address nor a host name (without a port)
F:4: dns.domain: "sd.0x1" is not a DNS domain; write it as disc. or sd.example.com`},
		{"networks of checks", "checks:\n  networks:\n    - \"172.17\"\n    - 172.17.0.1/16\n    - ::ffff:10.0.0.0/104\n    - 169.254.169.254/32\n    - fe80::/64\n    - 64:ff9b::a9fe:a9fe/128\n", `
F:2: checks.networks: "172.17" is not a network; write it as 172.17.0.0/16, fd00:1::/64 or 192.0.2.1
F:2: checks.networks: 172.17.0.1/16 has bits beyond the length of the network; write 172.17.0.0/16
F:2: checks.networks: ::ffff:10.0.0.0/104 is an IPv4 network in IPv6 form; write it as IPv4, such as 172.17.0.0/16
F:2: checks.networks: checks of the HTTP API never probe 169.254.169.254/32: it is link-local, where clouds serve credentials; probe it by a check of the config file
F:2: checks.networks: checks of the HTTP API never probe fe80::/64: it is link-local; probe it by a check of the config file
F:2: checks.networks: checks of the HTTP API never probe 64:ff9b::a9fe:a9fe/128: it is a form of 169.254.169.254, which is link-local, where clouds serve credentials; probe it by a check of the config file`},
		{"a line separator", "zone: \"a\\u2028b\"\nservices: [{service: web, address: 255.255.255.255, meta: {note: \"a\\nb\"}, zone: z, checks: [{type: ttl, ttl: 1s, name: \"\\u202e\"}]}]\n", `
F:1: zone: "a\u2028b" is too long or has control characters
F:2: services[0].address: address 255.255.255.255 is the broadcast address; give the address of one host
F:2: services[0].meta: meta "note" has the character U+000A, which acts on the text around it; leave control characters out
F:2: services[0].checks[0].name: name has the character U+202E, which acts on the text around it; leave control characters out`},
		{"watch", "catalog: {watch: web/1}\n", `
F:1: catalog.watch: service name "web/1" has '/'; use letters, digits and - _ .; write auto, all, lazy or a list of services`},
		{"watch a list", "catalog: {watch: [web, -]}\n", `
F:1: catalog.watch: service name "-" begins with "-"; begin with a letter or digit; write auto, all, lazy or a list of services`},
		{"listen", "http: {listen: 127.0.0.1}\ndns: {listen: \"127.0.0.1:65536\"}\n", `
F:1: http.listen: "127.0.0.1" is not host:port; write 127.0.0.1:3472 or [::1]:3472
F:2: dns.listen: port "65536" is not a number from 0 to 65535`},
		{"listen nowhere", "http: {listen: \"\"}\n", `
F:1: http.listen: the agent would listen nowhere; give an address, or http.socket`},
		{"gRPC for everybody", "grpc: {listen: \"0.0.0.0:18000\"}\n", `
F:1: grpc.listen: 0.0.0.0:18000 is reachable from other hosts, and gRPC has neither TLS nor a token: give a loopback address, such as 127.0.0.1:18000`},
		{"domain with two dots at its end", "dns: {domain: \"disc..\"}\n", `
F:1: dns.domain: "disc.." is not a DNS domain; write it as disc. or sd.example.com`},
		{"domain", "dns: {domain: \"a..b\"}\n", `
F:1: dns.domain: "a..b" is not a DNS domain; write it as disc. or sd.example.com`},
		{"allow_hosts", "http: {allow_hosts: [a.example:80, \"\", ok.example]}\n", `
F:1: http.allow_hosts: "a.example:80" is neither an IP address nor a host name (without a port)
F:1: http.allow_hosts: element 2 of the list is empty`},
		{"files", "etcd: {cacert: /nowhere/ca.pem}\nhttp:\n  token_file: /\n", `
F:1: etcd.cacert: stat /nowhere/ca.pem: no such file or directory
F:3: http.token_file: / is a directory`},
		{"half of a pair", "etcd: {cert: /dev/null}\nhttp: {tls: {key: /dev/null}}\n", `
F:1: etcd.cert: set etcd.key too
F:2: http.tls.key: set http.tls.cert too`},
		{"no endpoints", "etcd: {endpoints: []}\n", `
F:1: etcd.endpoints: the list is empty; give at least one endpoint`},
		{"endpoints", "etcd: {endpoints: [etcd, \"ftp://a:1\", \"http://me:pw@b:2\", \"unix://\", \"http://a:1/x\", \"a:0\", ok:1]}\n", `
F:1: etcd.endpoints: "etcd" is not an etcd endpoint; write host:2379, http://host:2379 or https://host:2379
F:1: etcd.endpoints: "ftp://a:1" has the unknown scheme "ftp"; use http, https, unix, unixs or none
F:1: etcd.endpoints: an endpoint contains a user; give it as etcd.user
F:1: etcd.endpoints: "unix://" is not an etcd endpoint; write host:2379, http://host:2379 or https://host:2379
F:1: etcd.endpoints: "http://a:1/x" is not an etcd endpoint; write host:2379, http://host:2379 or https://host:2379
F:1: etcd.endpoints: "a:0" is not an etcd endpoint; write host:2379, http://host:2379 or https://host:2379`},
		{"mixed endpoints", "etcd: {endpoints: [\"https://a:1\", b:2]}\n", `
F:1: etcd.endpoints: https://a:1,b:2 mixes endpoints with and without TLS; write all with https:// or none`},
		{"TLS without effect", "etcd: {endpoints: [\"http://a:1\"], cacert: /dev/null}\n", `
F:1: etcd.cacert: has no effect: etcd.endpoints are without TLS; write them with https://`},
		{"password", "etcd: {user: root}\n", `
F:1: etcd.user: user root has no password; give --password-file`},
		{"password without a user", "etcd: {password_file: /dev/null}\n", `
F:1: etcd.password_file: the password has no user; give --user`},
		{"two passwords", "etcd: {user: \"root:hunter2\", password_file: /dev/null}\n", `
F:1: etcd.user: user root has a password and a password file; give only one`},
		{"user", "etcd: {user: \":hunter2\"}\n", `
F:1: etcd.user: the user's name is missing before the colon; write name or name:password`},
	} {
		t.Run(tt.name, func(t *testing.T) { wantError(t, tt.content, nil, tt.want) })
	}
}

func wantError(t *testing.T, content string, env map[string]string, want string, args ...string) {
	t.Helper()
	path := file(t, content)
	c, err := config.Load(t.Context(), flags(t, append(args, "--config", path)...), host(t, env))
	if err == nil {
		t.Fatalf("no error, but %+v", c)
	}
	got := "\n" + strings.ReplaceAll(err.Error(), path, "F")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBadService(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"impossible values", `services:
  - service: web
    id: a/b
    port: 70000
    ports: {grpc: 0}
    weight: -1
    tags: [a b]
    checks:
      - type: http
        url: ftp://x
      - {type: tcp, interval: 1s, timeout: 2s}
      - {type: ping}
`, `
F:3: services[0].id: instance id "a/b" has '/'; use letters, digits and - _ . :
F:4: services[0].port: port 70000 is out of range; use 0 to 65535
F:5: services[0].ports: port grpc 0 is out of range; use 1 to 65535
F:6: services[0].weight: weight -1 is out of range; use 0 to 65535
F:7: services[0].tags: tag "a b" has ' '; use letters, digits and - _ .
F:10: services[0].checks[0].url: url "ftp://x" is not an http or https URL
F:11: services[0].checks[1].timeout: timeout 2s is out of range; it must be above 0 and at most the interval, 1s
F:12: services[0].checks[2].type: type "ping" is unknown; use http, tcp, grpc, exec or ttl`},
		{"unknown keys and wrong types", `services:
  - service: web
    prot: 80
    port: "80"
    weight: [1]
    meta: [a]
    tags: v2
    checks:
      - {type: tcp, address: "a:1", intervall: 1s}
      - {type: ttl, ttl: soon}
      - {type: ttl, ttl: [1s]}
`, `
F:3: services[0].prot: unknown key; did you mean port?
F:4: services[0].port: "80" is given where a whole number is expected
F:5: services[0].weight: a list is given where a whole number is expected
F:6: services[0].meta: a list is given where keys and values are expected
F:7: services[0].tags: "v2" is given where a list is expected
F:9: services[0].checks[0].intervall: unknown key; did you mean interval?
F:10: services[0].checks[1].ttl: "soon" is not a duration; write it as 500ms, 10s or 1h30m
F:11: services[0].checks[2].ttl: a list is given where text is expected`},
		{"no name", "services:\n  - {port: 80}\n", `
F:2: services[0]: service name is empty; give 1 to 63 letters, digits or - _ .
F:2: services[0]: instance id is empty; give 1 to 128 letters, digits or - _ . :`},
		{"one id twice", "services:\n  - {service: web, id: a}\n  - {service: web, id: A}\n  - {service: WEB, id: a}\n", `
F:4: services[2]: WEB/a is already in line 2; give each its own id`},
		{"one default id twice", "services:\n  - {service: web, port: 1}\n  - {service: web, port: 2}\n", `
F:3: services[1]: web/web-host-1 is already in line 2; give each its own id`},
		{"deregister_after", "services:\n  - service: web\n    deregister_after: 1h\n", `
F:3: services[0].deregister_after: applies only to registrations over the API; remove it`},
		{"no list", "services: {web: 80}\n", `
F:1: services: a map is given where a list is expected`},
	} {
		t.Run(tt.name, func(t *testing.T) { wantError(t, tt.content, nil, tt.want) })
	}
}

// TestAllProblemsAtOnce expects the problems of the file first, by line, then the others.
func TestAllProblemsAtOnce(t *testing.T) {
	wantError(t, "zone: a\nfoo: 1\nsession: {ttl: 1s}\nservices: [{service: web, port: -1}]\n",
		map[string]string{"DISC_ENDPOINTS": "a:1,,b:2", "DISC_DNS_TTL": "x"}, `
F:2: foo: unknown key
F:3: session.ttl: 1s is out of range; use 5s to 1h
F:4: services[0].port: port -1 is out of range; use 0 to 65535
env DISC_DNS_TTL: dns.ttl: "x" is not a duration; write it as 500ms, 10s or 1h30m
env DISC_ENDPOINTS: etcd.endpoints: element 2 of the list is empty
flag --http: http.listen: 0.0.0.0:3472 is reachable from other hosts, without TLS: set http.tls.cert and http.tls.key; or set http.allow_plaintext, if others on the network may read and change what is sent, tokens too
flag --http: http.listen: 0.0.0.0:3472 is reachable from other hosts, which could write: set http.tokens, http.token_file or http.clients; or list in http.anonymous what every host may do, such as [read]`,
		"--http", "0.0.0.0:3472")
}

func TestListenAddress(t *testing.T) {
	for address, loopback := range map[string]bool{
		"127.0.0.1:0": true, "127.8.9.1:80": true, "[::1]:80": true, "localhost:80": true, "[::ffff:127.0.0.1]:80": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "10.0.0.5:80": false, "host-1:80": false, "[fe80::1%eth0]:80": false,
	} {
		t.Run(address, func(t *testing.T) {
			_, err := config.Load(t.Context(), flags(t, "--config", "", "--http", address), host(t, nil))
			if loopback != (err == nil) {
				t.Errorf("listen: %v", err)
			}
			if _, err := config.Load(t.Context(), flags(t, "--config", "", "--grpc", address), host(t, nil)); loopback != (err == nil) {
				t.Errorf("listen for gRPC: %v", err)
			}
		})
	}
}

// TestListenBeyondLoopback expects that an address which other hosts can reach needs TLS and
// somebody who may write, or a setting that gives it up.
func TestListenBeyondLoopback(t *testing.T) {
	const (
		pair  = "  tls: {cert: /dev/null, key: /dev/null}\n"
		ca    = "  tls: {cert: /dev/null, key: /dev/null, client_ca: /dev/null}\n  clients: [{name: a, scopes: [all]}]\n"
		plain = "  allow_plaintext: true\n"
		token = "  token_file: /dev/null\n"
		open  = "  anonymous: [all]\n"
		read  = "  anonymous: [read]\n"
		none  = "  anonymous: none\n"
		auto  = "  anonymous: auto\n"

		noTLS   = "without TLS: set http.tls.cert"
		noToken = "which could write: set http.tokens"
	)
	named := "  tokens: [{name: ci, sha256: " + hash + ", scopes: [register]}]\n"
	for _, tt := range []struct {
		http string
		want []string
	}{
		{"", []string{noTLS, noToken}},
		{pair, []string{noToken}},
		{plain, []string{noToken}},
		{auto + pair, []string{noToken}},
		{token, []string{noTLS}}, {named, []string{noTLS}}, {open, []string{noTLS}}, {read, []string{noTLS}}, {none, []string{noTLS}},
		{pair + token, nil}, {pair + named, nil}, {ca, nil}, {pair + open, nil}, {pair + read, nil}, {pair + none, nil},
		{plain + token, nil}, {plain + named, nil}, {plain + open, nil}, {plain + read, nil},
	} {
		t.Run(tt.http, func(t *testing.T) {
			_, err := config.Load(t.Context(), flags(t, "--config", file(t, "http:\n  listen: 0.0.0.0:1\n"+tt.http)), host(t, nil))
			for _, text := range []string{noTLS, noToken} {
				if has := err != nil && strings.Contains(err.Error(), text); has != slices.Contains(tt.want, text) {
					t.Errorf("%s: %v; %v", text, has, err)
				}
			}
			if err != nil && len(tt.want) == 0 {
				t.Error(err)
			}
		})
	}
}

func TestGoodFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--agent", "http://127.0.0.1:3472/"}, {"--agent", "https://[::1]"}, {"--agent", "unix:///run/disc.sock"},
		{"-o", "json"}, {"-o", "template={{.id}}"}, {"--dns", ""}, {"--grpc", ""}, {"--http", "localhost:0"},
		{"--endpoints", "[::1]:2379,etcd-1:2379"}, {"--endpoints", "unix:///run/etcd.sock"}, {"--endpoints", "https://a:1,unixs:///b"},
		{"--advertise", "fd00::5"}, {"--advertise", "host-1.example.com"}, {"--advertise", "::ffff:10.0.0.5"},
		{"--endpoints", "etcd-1.example.com.:2379"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			if _, err := config.Load(t.Context(), flags(t, append(args, "--config", "")...), host(t, nil)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBadFlags(t *testing.T) {
	maxSocket := map[string]int{"linux": 107, "darwin": 103}[runtime.GOOS]
	long := "/" + strings.Repeat("s", maxSocket)
	for _, tt := range []struct {
		name string
		args []string
		env  map[string]string
		want string
	}{
		{name: "unix without an absolute path", args: []string{"--agent", "unix://run/disc.sock"}, want: `flag --agent: cli.agent: "unix://run/disc.sock" is not the address of an agent; write host:port, https://host:port or unix:///path`},
		{name: "port of an agent that is no port", args: []string{"--agent", "localhost:http"}, want: `flag --agent: cli.agent: "localhost:http" is not the address of an agent; write host:port, https://host:port or unix:///path`},
		{name: "agent with a user", args: []string{"--agent", "http://me:hunter2@a"}, want: `flag --agent: cli.agent: the URL contains a user, which an agent does not support`},
		{name: "empty template", args: []string{"-o", "template="}, want: `flag --output: cli.output: the template is empty; write template='{{.id}}'`},
		{name: "empty password", args: []string{"--user", "root:"}, want: `flag --user: etcd.user: the password is empty after "root:"; write name:password, or give only the name and a password file`},
		{name: "host", args: []string{"--http", "a b:80"}, want: `flag --http: http.listen: "a b" is neither an IP address nor a host name`},
		{name: "empty list", args: []string{"--endpoints", ""}, want: `flag --endpoints: etcd.endpoints: the list is empty; give at least one endpoint`},
		{name: "socket", env: map[string]string{"DISC_HTTP_SOCKET": long}, want: fmt.Sprintf("env DISC_HTTP_SOCKET: http.socket: the path has %d bytes; a Unix socket's may have %d", maxSocket+1, maxSocket)},
		{name: "token", args: []string{"--token", "hunter2\n"}, want: `flag --token: cli.token: has a blank, or a character that is not ASCII; give the token alone`},
		{name: "half of a client certificate", args: []string{"--agent-cert", "/dev/null"}, want: `flag --agent-cert: cli.cert: set cli.key too`},
		{name: "scope", env: map[string]string{"DISC_HTTP_ANONYMOUS": "read,kv:app/*"}, want: `env DISC_HTTP_ANONYMOUS: http.anonymous: scope "kv:app/*": a directory of keys ends in "/"; write app/ for all keys below app; write auto, none or a list of scopes`},
		{name: "boolean", env: map[string]string{"DISC_NO_COLOR": "sure"}, want: `env DISC_NO_COLOR: cli.no_color: "sure" is neither true nor false`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load(t.Context(), flags(t, append(tt.args, "--config", "")...), host(t, tt.env))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// TestAliasBomb expects the reader to stop at a small file that aliases of aliases expand to
// a huge one.
func TestAliasBomb(t *testing.T) {
	list := func(element string) string { return "[" + strings.Repeat(element+", ", 399) + element + "]" }
	content := "services:\n  - &s {service: web, checks: [&c {type: exec, command: &t " + list("x") + "}" + strings.Repeat(", *c", 399) + "]}\n" +
		strings.Repeat("  - *s\n", 399)
	_, err := config.Load(t.Context(), flags(t, "--config", file(t, content)), host(t, nil))
	if err == nil || !strings.Contains(err.Error(), "the file is too large with its aliases expanded") {
		t.Errorf("got %.200v", err)
	}
}
