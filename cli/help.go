package cli

import "github.com/spf13/cobra"

// usageTemplate is cobra's, but for the global flags: a line names the most used ones, and 'disc
// help flags' describes all. A command's own flags would be lost between them.
const usageTemplate = `Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]{{end}}{{if gt (len .Aliases) 0}}

Aliases:
  {{.NameAndAliases}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}{{$cmds := .Commands}}{{if eq (len .Groups) 0}}

Available Commands:{{range $cmds}}{{if (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{else}}{{range $group := .Groups}}

{{.Title}}{{range $cmds}}{{if (and (eq .GroupID $group.ID) (or .IsAvailableCommand (eq .Name "help")))}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{end}}{{if .LocalNonPersistentFlags.HasAvailableFlags}}

Flags:
{{.LocalNonPersistentFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}

Global flags, such as --endpoints, --agent, -n and -o: see 'disc help flags'.{{if .HasAvailableSubCommands}}

Use "{{.CommandPath}} [command] --help" for more information about a command.{{end}}
`

// addHelp sets the form of the help texts, adds the topic of the global flags, and has 'disc help'
// refuse a command that does not exist.
func addHelp(root *cobra.Command) {
	root.SetUsageTemplate(usageTemplate)
	topic := &cobra.Command{
		Use:    "flags",
		Short:  "The global flags",
		Long:   "Flags that every command has. Each is a setting, too: a variable, or a line of the config file.",
		Hidden: true,
	}
	topic.SetHelpTemplate("{{.Long}}\n\n{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}\n")
	root.AddCommand(topic)
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil {
		panic(err) // it was added before
	}
	show := help.Run
	help.Run = nil
	help.RunE = func(cmd *cobra.Command, args []string) error {
		parent, unknown, err := root.Find(args)
		if err == nil {
			err = rejectUnknownCommand(parent, unknown)
		}
		if err != nil {
			return usage(err)
		}
		show(cmd, args)
		return nil
	}
}
