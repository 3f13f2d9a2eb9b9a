package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// goProgram is a program around the lines of Go that a page shows.
const goProgram = `package main

import (
	"context"

	"disc/agent/api"
)

func main() {
	ctx := context.Background()
LINES	if err != nil {
		panic(err)
	}
}
`

// program runs a program that a page shows, against the page's fleet. It does not run lines of
// Go that are part of e2e/example, which the example's own tests build and run.
func (c *console) program(kind, text string) {
	c.t.Helper()
	if kind == "go" && inGoExample(c, text) {
		return
	}
	if strings.Contains(text, "app/greeting") {
		c.expect("disc kv set app/greeting none", "")
	}
	text = strings.ReplaceAll(text, "127.0.0.1:3472", c.agent)
	var command *exec.Cmd
	switch kind {
	case "python":
		requireProgram(c.t, "python3")
		command = exec.Command("python3", "-c", text)
	case "js":
		requireProgram(c.t, "node")
		command = exec.Command("node", "--input-type=module", "-e", text)
	case "go":
		file := filepath.Join(c.t.TempDir(), "main.go")
		text = strings.ReplaceAll(text, "\nerr =", "\n_, _ = revision, taken\nerr =")
		if err := os.WriteFile(file, []byte(strings.Replace(goProgram, "LINES", text, 1)), 0o600); err != nil {
			c.t.Fatal(err)
		}
		command = exec.Command("go", "run", file)
	}
	c.t.Logf("a program in %s", kind)
	if out, err := command.CombinedOutput(); err != nil {
		c.t.Fatalf("%s: %v\n%s", text, err, out)
	}
	if strings.Contains(text, "app/greeting") {
		c.expect("disc kv get app/greeting", "hello")
	}
}

// inGoExample reports whether a Go file of the example has the lines, whatever their
// indentation.
func inGoExample(c *console, text string) bool {
	c.t.Helper()
	files, err := filepath.Glob("example/*/*.go")
	if err != nil {
		c.t.Fatal(err)
	}
	flat := func(s string) string { return strings.ReplaceAll(s, "\t", "") }
	for _, file := range files {
		if strings.Contains(flat(string(read(c.t, file))), flat(text)) {
			return true
		}
	}
	return false
}
