package config_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"disc/config"
)

// The page is written anew by 'go test ./config ./discovery ./agent -run TestReferencePage -update'.
const referencePage = "../docs/reference-settings.md"

const referenceHead = `# Settings

Every setting of the [config file](production.md#the-config-file), with its flag and its variable. A flag goes before a
variable, a variable before the file, the file before the default; an empty variable counts as unset. Dots in a key
separate sections of the file: ` + "`etcd.endpoints`" + ` is ` + "`etcd: {endpoints: […]}`" + `. Lists are separated by commas in flags and variables.
` + "`disc config view`" + ` shows the values and where each came from, ` + "`disc config check FILE`" + ` looks for mistakes in a file.

The flags of the first table are those of every command. Those of the second are of ` + "`disc agent`" + ` and ` + "`disc dev`" + `. Settings
with ↻ are applied by SIGHUP; the others take a restart.
`

func TestReferencePage(t *testing.T) {
	page := referenceHead
	for _, everyone := range []bool{true, false} {
		page += map[bool]string{true: "\n## Of every command\n", false: "\n## Of an agent\n"}[everyone]
		page += "\n| key | flag | variable | default | meaning |\n| --- | --- | --- | --- | --- |\n"
		for _, d := range config.Describe() {
			if d.Meaning == "" {
				t.Errorf("%s has no description in the table", d.Key)
			}
			if d.Everyone == everyone {
				page += row(d)
			}
		}
	}
	if *update {
		if err := os.WriteFile(referencePage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page, string(got)); diff != "" {
		t.Errorf("the page is not that of the table (docs/changing.md says how to write it anew):\n%s", diff)
	}
}

func row(d config.Description) string {
	key := code(d.Key)
	if d.Reloads {
		key += " ↻"
	}
	if !d.InFile {
		key = "not in the file"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", key, code(d.Flag), code(d.Variable), code(d.Default), strings.ReplaceAll(d.Meaning, "|", `\|`))
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// TestDescriptionOfListElement expects that an element of a list has the description of the list.
func TestDescriptionOfListElement(t *testing.T) {
	for key, want := range map[string]string{"services[3]": "services", "http.tokens[0]": "http.tokens", "zone": "zone", "later": ""} {
		if got := config.DescriptionOf(key).Key; got != want {
			t.Errorf("%s has the description of %q, want %q", key, got, want)
		}
	}
}
