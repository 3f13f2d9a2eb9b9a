package render_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"disc/cli/render"
	"disc/discovery"
	"disc/discovery/view"
)

// fleet is a Source of fixed answers.
type fleet struct{ err error }

func (f fleet) Service(_ context.Context, name string) ([]discovery.Endpoint, error) {
	if name != "web" {
		return nil, f.err
	}
	return []discovery.Endpoint{{ID: "web-1", Address: "10.0.0.1", Port: 80, Weight: 1}, {ID: "web-2", Address: "10.0.0.2", Port: 80, Weight: 5, Meta: discovery.Meta{"team": "core"}}}, f.err
}

func (f fleet) Instances(context.Context, string) ([]view.Entry, error) {
	entry := func(id, address string, weight int, state discovery.State, tags ...string) view.Entry {
		return view.Entry{Instance: discovery.Instance{ID: id, Address: address, Port: 80, Weight: weight, Tags: tags}, State: state}
	}
	return []view.Entry{
		entry("web-1", "10.0.0.1", 1, discovery.Up), entry("web-2", "10.0.0.2", 5, discovery.Up, "canary"), entry("web-3", "10.0.0.3", 1, discovery.Drain),
	}, f.err
}

func (f fleet) Services(context.Context) ([]render.Service, error) {
	return []render.Service{{Name: "db"}, {Name: "web", Healthy: 2, Total: 3, Tags: discovery.Tags{"canary"}}}, f.err
}

func (f fleet) Nodes(context.Context) ([]discovery.Node, error) {
	return []discovery.Node{{Node: "host-1"}, {Node: "host-2"}}, f.err
}

func TestTemplates(t *testing.T) {
	for _, name := range []string{"nginx", "haproxy"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + name + ".ctmpl")
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile("testdata/" + name + ".golden")
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := render.Parse(name, string(text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := parsed.Execute(t.Context(), fleet{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		})
	}
}

func TestFunctions(t *testing.T) {
	t.Setenv("RENDER_TEST", "v")
	for text, want := range map[string]string{
		`{{ env "RENDER_TEST" }}`:                                             "v",
		`{{ "a,b" | split "," | join "+" }}`:                                  "a+b",
		`{{ "A.b" | toLower | replaceAll "." "-" }}`:                          "a-b",
		`{{ if "abc" | contains "b" }}yes{{ end }}`:                           "yes",
		`{{ in "abc" "d" }}`:                                                  "false",
		`{{ toUpper "a" }}`:                                                   "A",
		`{{ hostport "2001:db8::1" 80 }} {{ hostport "a" 0 }}`:                "[2001:db8::1]:80 a",
		`{{ (index (services) 1) | toJSON }}`:                                 `{"name":"web","healthy":2,"total":3,"tags":["canary"]}`,
		`{{ range services }}{{ .Name }}={{ len (service .Name) }} {{ end }}`: "db=0 web=2 ",
		`{{ range instances "web" }}{{ if .Tags | contains "canary" }}{{ .ID }}{{ end }}{{ end }}`:                "web-2",
		`{{ range instances "web" }}{{ if in .Tags "canary" }}{{ .Tags | join "," }}{{ end }}{{ end }}`:           "canary",
		`{{ range instances "web" }}{{ .State }} {{ end }}`:                                                       "up up drain ",
		`{{ range service "web" }}{{ or .Meta.team "none" }}{{ if .Meta | contains "team" }}!{{ end }} {{ end }}`: "none core! ",
		`{{ "<&>" | toJSON }}`:                                `"<&>"`,
		`{{ range service "none" }}x{{ else }}none{{ end }}`:  "none",
		`{{ with $s := service "web" }}{{ len $s }}{{ end }}`: "2",
	} {
		t.Run(text, func(t *testing.T) {
			parsed, err := render.Parse("t", text)
			if err != nil {
				t.Errorf("%s: %v", text, err)
				return
			}
			if got, err := parsed.Execute(t.Context(), fleet{}); err != nil || string(got) != want {
				t.Errorf("%s: %q (%v), want %q", text, got, err, want)
			}
		})
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	if _, err := render.Parse("a.ctmpl", "\n{{ nothing }}"); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), "a.ctmpl:2") {
		t.Errorf("unknown function: %v", err)
	}
	parsed, err := render.Parse("a.ctmpl", "\n\n{{ range service \"web\" }}{{ .Prot }}{{ end }}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.Execute(t.Context(), fleet{}); err == nil || !strings.Contains(err.Error(), "a.ctmpl:3") {
		t.Errorf("unknown field: %v", err)
	}
	for _, call := range []string{`service "."`, `instances "a/b"`, `contains "a" 1`, `in 1`} {
		parsed, err := render.Parse("a.ctmpl", "\n{{ "+call+" }}")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parsed.Execute(t.Context(), fleet{}); err == nil || !strings.Contains(err.Error(), "a.ctmpl:2") {
			t.Errorf("%s: %v", call, err)
		}
	}
	if _, err := parsed.Execute(t.Context(), fleet{discovery.Errorf(discovery.ErrUnavailable, "away")}); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("source: %v", err)
	}
}

func TestQuiescence(t *testing.T) {
	q := render.Quiescence{Min: 250 * time.Millisecond, Max: 2 * time.Second}
	for interval, want := range map[time.Duration]time.Duration{
		time.Hour:              250 * time.Millisecond,
		200 * time.Millisecond: 2 * time.Second, // a change always follows
	} {
		synctest.Test(t, func(t *testing.T) {
			changed, began := make(chan struct{}, 1), time.Now()
			every := time.NewTicker(interval)
			defer every.Stop()
			over := make(chan struct{})
			go func() {
				for {
					select {
					case <-every.C:
						changed <- struct{}{}
					case <-over:
						return
					}
				}
			}()
			defer synctest.Wait()
			defer close(over)
			if err := q.Wait(t.Context(), changed); err != nil || time.Since(began) != want {
				t.Errorf("changes each %v: Wait returned after %v (%v), want %v", interval, time.Since(began), err, want)
			}
		})
	}
}
