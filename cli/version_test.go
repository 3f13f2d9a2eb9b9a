package cli

import (
	"encoding/json"
	"regexp"
	"runtime"
	"testing"
)

func TestVersionJSON(t *testing.T) {
	var got version
	if err := json.Unmarshal([]byte(newTerminal(t).ok("version", "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-dev)?$`).MatchString(got.Version) {
		t.Errorf("version %q is neither a release, 0.2.0, nor a development version, 0.2.0-dev", got.Version)
	}
	want := version{Version: currentVersion, Commit: got.Commit, Modified: got.Modified,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestVersionRevision(t *testing.T) {
	for _, test := range []struct {
		name string
		v    version
		want string
	}{
		{"unknown", version{}, ""},
		{"clean", version{Commit: "a3ec0f5"}, "a3ec0f5"},
		{"modified", version{Commit: "a3ec0f5", Modified: true}, "a3ec0f5+dirty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.v.revision(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
