package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is set when a release is linked: -X disc/cli.Version=1.2.3.
var Version = ""

type version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// programVersion reads what the program was built from.
func programVersion() version {
	v := version{Version: Version}
	info, ok := debug.ReadBuildInfo()
	if ok {
		v.Go = info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
	}
	if v.Version == "" {
		v.Version = "dev"
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version",
		Example: "  disc version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return show(a, listing[version]{
				items: []version{programVersion()}, single: true,
				columns: []column[version]{
					{header: "VERSION", value: func(v version) string { return v.Version }},
					{header: "COMMIT", value: func(v version) string { return v.Commit }},
					{header: "GO", value: func(v version) string { return v.Go }},
				},
				name: func(v version) string { return fmt.Sprintf("disc %s", v.Version) },
			})
		},
	}
}
