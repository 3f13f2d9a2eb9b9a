package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"disc/discovery/lookup"
)

// all yields a command and its subcommands, except those that cobra adds.
func all(c *cobra.Command, each func(*cobra.Command)) {
	if c.Hidden || c.Name() == "completion" || c.Name() == "help" {
		return
	}
	each(c)
	for _, sub := range c.Commands() {
		all(sub, each)
	}
}

func TestEveryCommandIsDescribed(t *testing.T) {
	a := &app{}
	all(a.rootCommand(), func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no short description", c.CommandPath())
		}
		if c.HasSubCommands() {
			return
		}
		if c.Long == "" || c.Example == "" {
			t.Errorf("%s has no long description or no example", c.CommandPath())
		}
		if strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the short description ends with a full stop", c.CommandPath())
		}
		for line := range strings.SplitSeq(c.Long, "\n") {
			if len([]rune(line)) > 90 {
				t.Errorf("%s: a line of the help has more than 90 characters: %s", c.CommandPath(), line)
			}
		}
	})
}

func TestExamplesParse(t *testing.T) {
	var examples []string
	all((&app{}).rootCommand(), func(c *cobra.Command) {
		for line := range strings.SplitSeq(c.Example, "\n") {
			for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune("|&>", r) }) {
				if part = strings.TrimSpace(part); strings.Contains(" "+part, " disc ") {
					examples = append(examples, part)
				}
			}
		}
	})
	if len(examples) < 25 {
		t.Fatalf("found %d examples only", len(examples))
	}
	for _, example := range examples {
		if err := parses(words(example)); err != nil {
			t.Errorf("%s: %v", example, err)
		}
	}
}

// parses parses a command line without running the command.
func parses(line []string) error {
	for strings.Contains(line[0], "=") { // variables
		line = line[1:]
	}
	root := (&app{}).rootCommand()
	root.SetOut(io.Discard)
	c, args, err := root.Find(line[1:])
	if err != nil {
		return err
	}
	if err := c.ParseFlags(args); err != nil {
		return err
	}
	if filter := c.Flags().Lookup("filter"); filter != nil {
		if _, err := lookup.ParseFilter(filter.Value.String()); err != nil {
			return err
		}
	}
	return c.ValidateArgs(c.Flags().Args())
}

// words splits a line as a shell does, to the extent that the examples need.
func words(line string) []string {
	var all []string
	for n, part := range strings.Split(line, "'") {
		if n%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}

func TestUsage(t *testing.T) {
	term := newTerminal(t)
	for _, tt := range []struct {
		line, want string
	}{
		{"nonsense", `unknown command "nonsense" for "disc"`},
		{"lst", "did you mean 'disc list'?"},
		{"gte", "did you mean 'disc get'?"},
		{"wach", "did you mean 'disc watch'?"},
		{"config vew", "did you mean 'disc config view'?"},
		{"put", "did you mean 'disc set' or 'disc kv set'?"},
		{"put web/x 10.0.0.1:1 --tag v2", "did you mean 'disc set' or"},
		{"register", "did you mean 'disc run' or 'disc set'?"},
		{"deregister", "did you mean 'disc unset'?"},
		{"delete", "did you mean 'disc unset', 'disc kv del' or 'disc limit del'?"},
		{"rm -r web", "did you mean 'disc unset', "},
		{"services", "did you mean 'disc list'?"},
		{"members", "did you mean 'disc list' or 'disc status'?"},
		{"ps", "did you mean 'disc list' or 'disc status'?"},
		{"kv put", "did you mean 'disc kv set'?"},
		{"kv rm", "did you mean 'disc kv del'?"},
		{"list --nonsense", "unknown flag: --nonsense\n"},
		{"list --stauts critical", "unknown flag: --stauts; did you mean '--status'?"},
		{"list --endpoint 10.0.0.1:2379", "did you mean '--endpoints'?"},
		{"lookup web --json", "did you mean '-o json'?"},
		{"status --addr 127.0.0.1:3472", "did you mean '--agent'?"},
		{"list --nonsense", "see 'disc list --help'"},
		{"set web/x --port 80", "did you mean 'HOST:PORT'?"},
		{"help nosuch", `unknown command "nosuch" for "disc"`},
		{"help lst", "did you mean 'disc list'?"},
		{"help kv nosuch", `unknown command "nosuch" for "disc kv"`},
		{"list a b", "2 arguments are given; write 'disc list [SERVICE]'"},
		{"list web --status fine", `--status "fine" is unknown; use passing, warning, critical or any`},
		{"lookup web --status fine", `--status "fine" is unknown; use passing, warning, critical or any`},
		{"list -A --tag v2", "-A lists the services of all namespaces"},
		{"list web --filter x==", "filter"},
		{"list web -A", "-A lists the services of all namespaces"},
		{"list -w -o yaml", "-o yaml does not support changes"},
		{"list web/", "service name"},
		{"list -o xml", `"xml" is unknown`},
		{"list --endpoints :::", "is not an etcd endpoint"},
		{"get", "an argument is missing; write"},
		{"get web/", "instance id is empty"},
		{"set web", "is not an instance; write SERVICE/ID"},
		{"set web/x", "nothing to set"},
		{"set web/x --weight -1", "--weight -1 is out of range; use 0 to 65535"},
		{"set web/x --weight many", `flag --weight: "many" is not a whole number`},
		{"set web/x --state off", `state "off" is unknown`},
		{"set web/x --meta novalue", `--meta "novalue" is neither key=value nor key-`},
		{"set web/x --tag a/b", `tag "a/b"`},
		{"set web/x --zone a --state up", "--zone and --ttl are for static entries"},
		{"set web/x 10.0.0.1:1 --ttl 1ms", "--ttl 1ms is below 1s"},
		{"set web/x 10.0.0.1:70000", "port 70000 is out of range"},
		{"set web/x 10.0.0.1:http", `port "http" is not a number`},
		{"set web/x 10.0.0.256:1", "neither an IP address nor a host name"},
		{"set web/-x 10.0.0.1:1", "begin with a letter or digit"},
		{"drain web", "is not an instance"},
		{"watch a/b", "service name"},
		{"wait web --min 0", "--min must be at least 1"},
		{"lookup", "an argument is missing; write"},
		{"lookup ''", `lookup name "" is empty`},
		{"lookup ..", `lookup name ".." is empty`},
		{"wait ''", `lookup name "" is empty`},
		{"list ''", "service name is empty"},
		{"list ..", "begin with a letter or digit"},
		{"list '' -w", "service name is empty"},
		{"get ''", "service name is empty"},
		{"get ..", "begin with a letter or digit"},
		{"watch ''", "service name is empty"},
		{"export -o file_sd ''", "service name is empty"},
		{"set '' 10.0.0.1:1", "is not an instance"},
		{"set /x 10.0.0.1:1", "service name is empty"},
		{"drain ''", "is not an instance"},
		{"unset ''", "is not an instance"},
		{"run --service '' -- true", "--service is missing"},
		{"lock '' -- true", "lock name is empty"},
		{"lock .. -- true", "begin with a letter or digit"},
		{"lock list ''", "lock name is empty"},
		{"lock break ''", "lock name is empty"},
		{"claim ''", "service name is empty"},
		{"claim list ''", "service name is empty"},
		{"limit get ''", "limit name is empty"},
		{"limit get ..", "begin with a letter or digit"},
		{"limit set '' 5/s", "limit name is empty"},
		{"limit del ''", "limit name is empty"},
		{"limit take ''", "limit name is empty"},
		{"kv get ''", "key is empty"},
		{"kv set '' x", "key is empty"},
		{"kv del ''", "key is empty"},
		{"kv del -r ''", "the prefix is empty"},
		{"kv list ''", "the prefix is empty"},
		{"kv watch ''", "the prefix is empty"},
		{"kv history ''", "key is empty"},
		{"list --namespace ''", "namespace is empty"},
		{"status --agent ''", "is not the address of an agent"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			r := term.disc(words(tt.line)...)
			if r.code != exitUsage || !strings.Contains(r.stderr, tt.want) || r.out != "" {
				t.Errorf("got exit code %d, stdout %q, stderr:\n%swant 2 and %q", r.code, r.out, r.stderr, tt.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	term := newTerminal(t)
	golden(t, "help.txt", term.ok())
	golden(t, "help-set.txt", term.ok("set", "--help"))
	golden(t, "help-flags.txt", term.ok("help", "flags"))
	for line := range strings.Lines(term.ok("help", "flags")) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "--"); ok && strings.Contains(term.ok("set", "--help"), "--"+strings.Fields(name)[0]+" ") {
			t.Errorf("the help of a command describes the global flag %s", line)
		}
	}
}

func TestVersion(t *testing.T) {
	if got := newTerminal(t).ok("--version"); got != "disc "+currentVersion+"\n" {
		t.Errorf("got %q", got)
	}
	out := newTerminal(t).ok("version", "-o", "json")
	for _, want := range []string{`"version": "`, `"go": "go1.`} {
		if !strings.Contains(out, want) {
			t.Errorf("got %s, want %s in it", out, want)
		}
	}
}

func TestConfigView(t *testing.T) {
	term := newTerminal(t)
	term.env["DISC_ZONE"] = "a"
	term.env["DISC_USER"] = "root:secret"
	out := term.ok("config", "view", "-o", "template={{.key}}|{{.value}}|{{.origin}}", "--http", "127.0.0.1:9")
	for _, want := range []string{
		"namespace|default|default\n", "zone|a|env DISC_ZONE\n", "http.listen|127.0.0.1:9|flag --http\n", "etcd.user|root|env DISC_USER\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("got\n%swant %q in it", out, want)
		}
	}
	if strings.Contains(out, "secret") {
		t.Errorf("a password is shown:\n%s", out)
	}
	if r := term.disc("config", "view", "--zone", "a\x1b"); r.code != exitUsage || strings.Contains(r.stderr, "\x1b") {
		t.Errorf("got exit code %d, stderr %q", r.code, r.stderr)
	}
}
