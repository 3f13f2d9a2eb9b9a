package render_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"disc/cli/render"
	"disc/discovery"
	"disc/discovery/retry/retrytest"
)

// hostile is text that somebody may have registered.
var hostile = []string{
	"", " ", "plain", "a b", "a\tb", "a\nb", "a\r\nb\n", "\n", "'", `"`, `\`, `\\`, `\n`, `\'`, `it's "so"`, `'; exit 1; '`, `"; exit 1; "`,
	"$HOME", "${HOME}", "$(id)", "`id`", "$", "a$", "{", "}", "{;}", ";", "#", "a #b", "# c", "&", "|", "*", "~", "!", "%", "%[env(HOME)]", "%%",
	"-", "- a", "a: b", "a:", "null", "yes", "1e3", "0x1f", "[", "]", "*a", "&a", "!!str", "---", "...", "? a", ",", "@", "<<",
	"\x00", "a\x00b", "\x01", "\x1b[2J", "\x7f", "\u0085", "\u009b", "\u2028", "\u2029", "\ufeff", "\u200b", "ü", "漢字", "😀", "\U0010ffff",
	"\xff", "a\xfe\xffb", "\xc3", strings.Repeat("x", 4096), strings.Repeat(`"`, 4096), strings.Repeat("é\\", 900),
}

// has returns a function that reports whether text has one of the characters, or is not UTF-8 if
// that is not allowed.
func has(characters string, notUTF8 bool) func(string) bool {
	return func(text string) bool {
		return strings.ContainsAny(text, characters) || notUTF8 && strings.ToValidUTF8(text, "") != text
	}
}

// controls are the control characters of ASCII.
var controls = func() string {
	b := []byte{0x7f}
	for c := range byte(' ') {
		b = append(b, c)
	}
	return string(b)
}()

// TestQuoting has the program that a format is for read back what was quoted. What is refused
// is refused for a reason, and nothing else is.
func TestQuoting(t *testing.T) {
	for _, test := range []struct {
		function, program string
		refused           func(text string) bool
		read              func(t *testing.T, quoted []string) []string
	}{
		{"shellQuote", "sh", has("\x00", false), readByShell},
		{"toJSON", "python3", has("", true), readByPython("json.loads(line)")},
		{"toYAML", "python3", has("", true), readByPython("yaml.safe_load(line)")},
		{"nginxQuote", "nginx", func(text string) bool {
			return has("$"+controls, false)(text) || text == strings.Repeat(`"`, 4096) || len(text) > 4000
		}, readByNginx},
		{"haproxyQuote", "haproxy", has("%"+controls, false), readByHAProxy},
	} {
		t.Run(test.function, func(t *testing.T) {
			if _, err := exec.LookPath(test.program); err != nil {
				t.Skipf("%s is not installed", test.program)
			}
			parsed, err := render.Parse("t.ctmpl", `{{ range service "web" }}{{ .Meta.k | `+test.function+` }}{{ end }}`)
			if err != nil {
				t.Fatal(err)
			}
			var texts, quoted []string
			for _, text := range hostile {
				got, err := parsed.Execute(t.Context(), endpoints{all: []discovery.Endpoint{{Meta: discovery.Meta{"k": text}}}})
				if (err != nil) != test.refused(text) {
					t.Errorf("%.60q: %v, want it refused: %v", text, err, test.refused(text))
				}
				if err == nil {
					texts, quoted = append(texts, text), append(quoted, string(got))
				} else if !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), "(in {{ .Meta.k | "+test.function+" }})") {
					t.Errorf("%.60q: %v does not name the field", text, err)
				}
			}
			for n, got := range test.read(t, quoted) {
				if got != texts[n] {
					t.Errorf("%.60q is quoted %.60q and read %.60q", texts[n], quoted[n], got)
				}
			}
		})
	}
}

func readByShell(t *testing.T, quoted []string) []string {
	line := "printf '%s\\0'"
	for _, q := range quoted {
		line += " " + q
	}
	out, err := exec.Command("sh", "-c", line).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// readByPython has an expression of Python parse each line of a document.
func readByPython(expression string) func(*testing.T, []string) []string {
	return func(t *testing.T, quoted []string) []string {
		c := exec.Command("python3", "-c", `
import json, sys
if "yaml" in sys.argv[1]:
    import yaml
print(json.dumps([`+expression+` for line in sys.stdin.buffer.read().decode("utf-8").split("\n")]))`, expression)
		c.Stdin, c.Stderr = strings.NewReader(strings.Join(quoted, "\n")), t.Output()
		out, err := c.Output()
		if err != nil {
			if strings.Contains(expression, "yaml") && exec.Command("python3", "-c", "import yaml").Run() != nil {
				t.Skip("Debian package python3-yaml is not installed")
			}
			t.Fatal(err)
		}
		var all []string
		if err := json.Unmarshal(out, &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
}

func readByNginx(t *testing.T, quoted []string) []string {
	n := newNginx(t)
	config := "server {\nlisten unix:" + n.dir + "/s;\n"
	for i, q := range quoted {
		config += fmt.Sprintf("location = /%d { return 200 %s; }\n", i, q)
	}
	return serve(t, n.command(t, config+"}"), n.dir+"/s", len(quoted))
}

func readByHAProxy(t *testing.T, quoted []string) []string {
	dir, err := os.MkdirTemp("", "disc-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := "global\n tune.bufsize 65536\ndefaults\n mode http\n timeout connect 1m\n timeout client 1m\n timeout server 1m\nfrontend f\n bind unix@" + dir + "/s\n"
	for i, q := range quoted {
		config += fmt.Sprintf(" http-request return status 200 content-type text/plain string =%s if { path /%d }\n", q, i)
	}
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	bodies := serve(t, exec.Command("haproxy", "-db", "-f", file), dir+"/s", len(quoted))
	for i, body := range bodies {
		bodies[i] = strings.TrimPrefix(body, "=") // which is there since this action refuses an empty text
	}
	return bodies
}

// serve runs a web server on a Unix socket and returns the bodies at /0, /1, ….
func serve(t *testing.T, server *exec.Cmd, socket string, count int) []string {
	t.Helper()
	var output strings.Builder
	server.Stdout, server.Stderr = &output, &output
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Wait() }()
	defer func() { _ = server.Process.Kill(); <-ended }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	retrytest.Eventually(t, "the server listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("the server ended:\n%s", output.String())
		default:
		}
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	var bodies []string
	for n := range count {
		response, err := client.Get(fmt.Sprintf("http://server/%d", n))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%d: %s, %v", n, response.Status, err)
		}
		bodies = append(bodies, string(body))
	}
	return slices.Clip(bodies)
}

// Whatever is in a value as a whole, what cannot be expressed is named.
func TestNotUTF8NamesTheField(t *testing.T) {
	parsed, err := render.Parse("t.ctmpl", `{{ service "web" | toYAML }}`)
	if err != nil {
		t.Fatal(err)
	}
	for want, e := range map[string]discovery.Endpoint{
		`[0]: .Meta: ["team"]: the text is not UTF-8`: {Meta: discovery.Meta{"team": "\xff"}},
		`[0]: .Zone: the text is not UTF-8`:           {Zone: "\xff"},
	} {
		if _, err := parsed.Execute(t.Context(), endpoints{all: []discovery.Endpoint{e}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestDocumentedQuoting renders the examples of docs/asking.md.
func TestDocumentedQuoting(t *testing.T) {
	docs, err := os.ReadFile("../../docs/asking.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| (.*) \\| `(.*\\.Meta\\.team.*)` \\| `(.*)` \\|$").FindAllStringSubmatch(string(docs), -1)
	if len(rows) != 5 {
		t.Fatalf("found %d examples, want 5", len(rows))
	}
	source := endpoints{all: []discovery.Endpoint{{Meta: discovery.Meta{"team": `it's 5 "a"`}}}}
	for _, row := range rows {
		t.Run(row[1], func(t *testing.T) {
			parsed, err := render.Parse("t.ctmpl", `{{ range service "web" }}`+strings.ReplaceAll(row[2], `\|`, "|")+`{{ end }}`)
			if err != nil {
				t.Fatal(err)
			}
			var all strings.Builder
			registrable := 0
			for _, text := range hostile {
				r := discovery.Registration{Service: "web", ID: "web-1", Address: "10.0.0.1", Port: 80, Meta: discovery.Meta{"team": text}}
				if r.WithDefaults("", "").Validate() != nil || strings.ToValidUTF8(text, "") != text { // JSON and YAML have none that is not UTF-8
					continue
				}
				got, err := parsed.Execute(t.Context(), endpoints{all: []discovery.Endpoint{{Meta: r.Meta}}})
				if err != nil {
					t.Errorf("%.60q can be registered and not be quoted: %v", text, err)
				}
				registrable++
				fmt.Fprintf(&all, "%s\n", got)
			}
			if registrable < len(hostile)/2 {
				t.Errorf("only %d of %d texts can be registered", registrable, len(hostile))
			}
			if row[1] == "nginx" {
				n := newNginx(t)
				n.check(t, "server {\nlisten unix:"+n.dir+"/s;\n"+all.String()+"}\n")
			}
			if got, err := parsed.Execute(t.Context(), source); err != nil || string(got) != row[3] {
				t.Errorf("got %s, %v; want %s", got, err, row[3])
			}
		})
	}
}
