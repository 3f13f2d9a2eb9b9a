package discovery

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The page is written anew by 'go test ./config ./discovery ./agent -run TestReferencePage -update'.
const checkReference = "../docs/reference-checks.md"

const checkReferenceHead = `# Checks

The checks of an instance are a list, ` + "`checks`" + `, in a [registration](registering.md) and in the config file:

` + "```yaml" + `
services:
  - service: web
    port: 8080
    checks:
      - {type: http, url: "http://127.0.0.1:8080/healthz", interval: 5s}
` + "```" + `

A field that a type does not have is refused. An instance is as healthy as the worst of its checks. Checks of the HTTP API
[probe this host](registering.md#what-such-a-check-may-probe) alone.
`

// checkMeanings says how each type of check finds a status.
var checkMeanings = map[CheckType]string{
	CheckHTTP: "asks a URL: 2xx is passing, 429 is warning, all else is critical",
	CheckTCP:  "connects: passing if that succeeds, else critical",
	CheckGRPC: "calls `grpc.health.v1.Health/Check`: `SERVING` is passing, all else is critical",
	CheckExec: "runs a command: exit code 0 is passing, 1 is warning, all else is critical",
	CheckTTL:  "waits for reports (`PUT …/checks/ID`): critical when none came within `ttl`",
}

// checkFieldMeanings describes the fields, below the name of a type that has them.
var checkFieldMeanings = map[string]string{
	"id":                "default: the type, then the type with `-2` and so on",
	"name":              "what people see",
	"type":              "one of the sections below",
	"url":               "what is asked, `http://` or `https://`",
	"method":            "`GET` or `HEAD`; checks of the config file may use others",
	"headers":           "headers of the request, as name and value. Host is refused, and so are headers of the connection and those that proxies or the metadata services of clouds act on; checks of the config file may use all",
	"ca":                "CA certificates that the server's must be of, as PEM text; only over TLS; default: the system's. Checks of the config file may name a file",
	"server_name":       "name in the server's certificate; only over TLS; default: the host that is asked. Only checks of the config file also send it",
	"skip_verify":       "accept any certificate; only over TLS",
	"address":           "`host:port` that is asked; default: those of the instance",
	"service":           "the service name in the request",
	"tls":               "connect over TLS",
	"command":           "the program and its arguments, as a list; only in the config file",
	"ttl":               "time within which a report is due, 100ms to 24h",
	"success_threshold": "successes in a row, 1 to 100, until the check is passing",
	"failure_threshold": "failures in a row, 1 to 100, until the check is critical",
	"interval":          "time between two runs, 100ms to 24h",
	"timeout":           "time that a run may take, at most the interval, which is the default where it is shorter",
}

func TestReferencePage(t *testing.T) {
	fields := specFields()
	page := checkReferenceHead + "\n## Of every type\n" + checkTable(t, CheckSpec{}, fields, []string{"type", "id", "name"})
	types := slices.SortedFunc(maps.Keys(checkSettings), func(a, b CheckType) int {
		if order := slices.Index(fields, checkSettings[a][0]) - slices.Index(fields, checkSettings[b][0]); order != 0 {
			return order
		}
		return len(checkSettings[a]) - len(checkSettings[b]) // tcp before grpc, which both have an address first
	})
	for _, kind := range types {
		if checkMeanings[kind] == "" {
			t.Errorf("checks of type %s have no description", kind)
		}
		page += fmt.Sprintf("\n## %s\n\nIt %s.\n", kind, checkMeanings[kind])
		page += checkTable(t, CheckSpec{Type: kind}.WithDefaults(), fields, checkSettings[kind])
	}
	if *update {
		if err := os.WriteFile(checkReference, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(checkReference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page, string(got)); diff != "" {
		t.Errorf("the page is not that of the code (docs/changing.md says how to write it anew):\n%s", diff)
	}
}

// specFields returns the names of the fields of a check, in their order.
func specFields() []string {
	var all []string
	for field := range reflect.TypeFor[CheckSpec]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		all = append(all, name)
	}
	return all
}

// checkTable describes fields, with the values that a check has by default.
func checkTable(t *testing.T, defaults CheckSpec, known, names []string) string {
	t.Helper()
	text, err := json.Marshal(defaults)
	values := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &values)
	}
	if err != nil {
		t.Fatal(err)
	}
	table := "\n| field | default | meaning |\n| --- | --- | --- |\n"
	for _, name := range names {
		meaning := strings.ReplaceAll(checkFieldMeanings[name], "|", `\|`)
		if meaning == "" || !slices.Contains(known, name) {
			t.Errorf("the field %s has no description, or is none of CheckSpec", name)
		}
		value := ""
		if v, ok := values[name]; ok && name != "type" {
			value = fmt.Sprintf("`%v`", v)
		}
		table += fmt.Sprintf("| `%s` | %s | %s |\n", name, value, meaning)
	}
	return table
}
