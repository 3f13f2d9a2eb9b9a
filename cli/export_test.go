package cli

import (
	"encoding/json"
	"testing"

	"disc/agent/api"
)

func TestExport(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	term.ok("set", "web/two", "[2001:db8::2]:2", "--tag", "v2")
	term.ok("set", "web/one", "10.0.0.1:1", "--meta", "team=core")
	term.ok("set", "db/one", "10.0.0.3:3")
	golden(t, "export-file-sd.json", term.ok("export", "-o", "file_sd", "WEB"))
	fromEtcd := term.ok("export", "-o", "file_sd")
	var groups []api.TargetGroup
	if err := json.Unmarshal([]byte(fromEtcd), &groups); err != nil || len(groups) != 3 {
		t.Errorf("got %d groups (%v), want 3", len(groups), err)
	}
	term.ok("set", "portless/one", "10.0.0.4")
	if got := term.ok("export", "portless"); got != "[]\n" {
		t.Errorf("got %q for a service without ports", got)
	}
	term.fails(exitDone, "nothing to scrape", "export", "-o", "file_sd", "portless")
	term.env["DISC_OUTPUT"] = "json"
	if got := term.ok("export"); got != fromEtcd {
		t.Errorf("with another format in the environment: got\n%swant\n%s", got, fromEtcd)
	}
	delete(term.env, "DISC_OUTPUT")
	if got := term.ok("export"); got != fromEtcd {
		t.Errorf("without -o: got\n%swant\n%s", got, fromEtcd)
	}
	term.fails(exitUsage, `export does not support -o wide; use -o file_sd`, "export", "-o", "wide")
	term.fails(exitUsage, `export does not support -o json; use -o file_sd`, "export", "-o", "json", "web")
	term.fails(exitUsage, "service name", "export", "-o", "file_sd", "a/b")
	term.fails(exitUsage, "-o file_sd is for 'disc export'", "list", "-o", "file_sd")

	term.await("10.0.0.3:3", "lookup", "db")
	term.env["DISC_ENDPOINTS"] = "127.0.0.1:1"
	r := term.disc("export", "-o", "file_sd")
	if r.code != exitDone || r.out != fromEtcd {
		t.Errorf("from the agent: got exit code %d and\n%s%swant\n%s", r.code, r.out, r.stderr, fromEtcd)
	}
	term.fails(exitDone, "asking this host's agent instead", "export", "-o", "file_sd", "db")
	term.env["DISC_AGENT"] = "http://127.0.0.1:1"
	if r := term.disc("export", "-o", "file_sd"); r.code != exitFailed || r.out != "" {
		t.Errorf("without etcd and agent: got exit code %d and %q", r.code, r.out)
	}
}
