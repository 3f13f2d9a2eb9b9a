package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

type version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// programVersion reads what the program was built from; "dev" where that has no version.
func programVersion() version {
	v := version{Version: "dev"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Go = info.GoVersion
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Long: `Show the version of the program, the commit that it was built from and the Go that
built it.`,
		Example: "  disc version\n  disc version -o json",
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
