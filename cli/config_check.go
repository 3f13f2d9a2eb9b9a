package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"disc/config"
)

func (a *app) configCheckCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Look for mistakes in a config file",
		Long: `Look for mistakes in a config file, as an agent does when it starts: unknown keys, wrong
types, impossible values, a file that is cut off, and certificates, tokens and passwords
that cannot be read, those of checks too. It reads as the user who runs it, and takes the
flags and variables that are given here into account. Without FILE it checks the one that
is in force.

Every mistake is a line on stderr, which begins with FILE:LINE, or with the variable or
flag at fault. Exit codes: 0 the file can be used, 2 it has mistakes.`,
		Example: `  disc config check /etc/disc/config.yaml
  disc config check /etc/disc/config.yaml && systemctl reload disc`,
		Args:        cobra.MaximumNArgs(1),
		Annotations: map[string]string{withoutConfig: "the file to check takes the place of the config file"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if args[0] == "" {
					return usage(errors.New("the name of the config file is empty; give its path, or none for the one that is in force"))
				}
				if err := cmd.Flags().Set("config", args[0]); err != nil {
					return usage(err)
				}
			}
			return a.checkConfig(cmd)
		},
	}
	config.AddFlags(c.Flags(), config.Agent)
	return c
}

func (a *app) checkConfig(cmd *cobra.Command) error {
	a.warnOfVariables()
	cfg, err := config.Load(cmd.Context(), cmd.Flags(), a.io.Host)
	if err != nil {
		return err
	}
	if err := cfg.Check(cmd.Context()); err != nil {
		return usage(err)
	}
	name := cfg.File
	if name == "" {
		name = "there is no config file, and the settings"
	}
	_, err = fmt.Fprintln(a.io.Out, printable(name)+": no mistakes")
	return err
}
