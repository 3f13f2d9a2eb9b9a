package e2e_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"disc/agent/api"
	"disc/discovery/devetcd/etcdtest"
)

// TestReadmePrograms runs the programs that the README shows, each against a fleet of
// its own.
func TestReadmePrograms(t *testing.T) {
	t.Parallel()
	for kind, run := range map[string]func(dir, program string) (*exec.Cmd, error){
		"python": func(_, program string) (*exec.Cmd, error) {
			return exec.Command("/usr/bin/python3", "-c", program), nil
		},
		"js": func(_, program string) (*exec.Cmd, error) {
			return exec.Command("node", "--input-type=module", "-e", program), nil
		},
		"go": func(dir, program string) (*exec.Cmd, error) {
			file := filepath.Join(dir, "main.go")
			text := "package main\n\nimport (\n\t\"context\"\n\t\"disc/agent/api\"\n)\n\nfunc main() {\n\tctx := context.Background()\n" +
				strings.ReplaceAll(program, "\nerr =", "\n_, _ = revision, taken\nerr =") + "\tif err != nil {\n\t\tpanic(err)\n\t}\n}\n"
			return exec.Command("go", "run", file), os.WriteFile(file, []byte(text), 0o600)
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for _, block := range blocks(t, kind) {
				p := newProgram(t, etcdtest.Start(t).Endpoint()).ready(t)
				p.agent(t)
				p.expect(t, 0, "", "limit", "set", "sms", "50/s")
				p.expect(t, 0, "", "limit", "take", "sms", "--wait", "10s")
				p.expect(t, 0, "", "set", "gpu/gpu-1", "10.0.0.7:9000")
				p.expect(t, 0, "", "wait", "gpu")
				command, err := run(t.TempDir(), strings.ReplaceAll(block, "127.0.0.1:3472", p.env["DISC_HTTP"]))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := exec.LookPath(command.Path); err != nil {
					t.Skip("needs python3, node and go (apt-get install python3 nodejs): ", err)
				}
				if out, err := command.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				client := api.Client{BaseURL: p.env["DISC_AGENT"], HTTP: http.DefaultClient}
				if item, _, err := client.KVGet(t.Context(), "app/greeting", api.KVRead{Linearizable: true}); err != nil || string(item.Value) != "hello" {
					t.Errorf("the greeting is %q, %v", item.Value, err)
				}
			}
		})
	}
}
