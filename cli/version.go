package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// currentVersion is the only place that states the version. A release sets it; the commit
// after the release sets the next version with "-dev" (semver.org).
const currentVersion = "0.2.0-dev"

type version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from more than the commit
	Go       string `json:"go"`
	Platform string `json:"platform"` // GOOS/GOARCH
}

// programVersion returns the version and how the program was built. The commit is empty
// when the go command did not record it (-buildvcs=false, or no git checkout).
func programVersion() version {
	v := version{Version: currentVersion, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Long: `Show the version of the program, the commit that it was built from, the Go version that
built it, and the platform that it was built for.`,
		Example: "  disc version\n  disc version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return show(a, listing[version]{
				items: []version{programVersion()}, single: true,
				columns: []column[version]{
					{header: "VERSION", value: func(v version) string { return v.Version }},
					{header: "COMMIT", value: version.revision},
					{header: "GO", value: func(v version) string { return v.Go }},
					{header: "PLATFORM", value: func(v version) string { return v.Platform }},
				},
				name: func(v version) string { return fmt.Sprintf("disc %s", v.Version) },
			})
		},
	}
}

// revision returns the commit, marked as the go command marks a build from a modified tree.
func (v version) revision() string {
	if v.Modified {
		return v.Commit + "+dirty"
	}
	return v.Commit
}
