package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"disc/discovery/resolver"
)

// The table of docs/asking.md, "| from | like this |".
var (
	askTable = regexp.MustCompile(`(?m)^\| from \|.*\n\| --- .*\n((?:\|.*\n)+)`)
	askRow   = regexp.MustCompile("^\\| ([^|]+?) \\| `([^`]+)`")
)

// row NAME FILE writes the code of the row NAME of the table in docs/asking.md to a file.
func rowCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, r := range askRows(ts) {
		if r[0] == args[0] {
			ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(r[1]+"\n"), 0o644))
			s := stageOf(ts)
			s.rows = append(s.rows, r[0])
			return
		}
	}
	ts.Fatalf("the table of docs/asking.md has no row %s", args[0])
}

// rows checks that the script has used every row of the table.
func rowsCommand(ts *testscript.TestScript, _ bool, _ []string) {
	for _, r := range askRows(ts) {
		if !slices.Contains(stageOf(ts).rows, r[0]) {
			ts.Fatalf("the row %s of docs/asking.md is not tested", r[0])
		}
	}
}

func askRows(ts *testscript.TestScript) [][2]string {
	b, err := os.ReadFile("../docs/asking.md")
	ts.Check(err)
	table := askTable.FindStringSubmatch(string(b))
	if table == nil {
		ts.Fatalf("docs/asking.md has no table that starts with | from |")
	}
	var all [][2]string
	for line := range strings.Lines(table[1]) {
		r := askRow.FindStringSubmatch(line)
		if r == nil {
			ts.Fatalf("the row %q of docs/asking.md has no code", line)
		}
		all = append(all, [2]string{r[1], r[2]})
	}
	return all
}

// runAskGo runs 'askgo', which has the code of the table's rows for Go.
func runAskGo() {
	if err := askGo(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func askGo() error {
	resp, err := http.Get("http://web.disc:8080/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Println("HTTP:", resp.Status)

	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	conn, err := grpc.NewClient("disc://127.0.0.1:3472/rpc", grpc.WithResolvers(resolver.New(nil)), plain)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := healthpb.NewHealthClient(conn).Check(context.Background(), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	fmt.Println("gRPC:", answer.GetStatus())
	return err
}
