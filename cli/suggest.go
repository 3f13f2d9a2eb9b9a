package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// rejectUnknownCommand refuses arguments of a command group and suggests a command.
func rejectUnknownCommand(parent *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], parent.CommandPath())
	return errors.New(text + lookup.Suggest(suggestCommands(parent, args[0])))
}

// suggestCommands returns the commands that somebody may have meant, quoted. A name that other
// programs have for a command comes before similar names.
func suggestCommands(parent *cobra.Command, typed string) []string {
	var meant, names []string
	byName := map[string]string{}
	eachCommand(parent, func(c *cobra.Command) {
		path := "'" + c.CommandPath() + "'"
		if slices.ContainsFunc(append(slices.Clip(c.SuggestFor), c.Name()), func(s string) bool { return strings.EqualFold(s, typed) }) {
			meant = append(meant, path)
		}
		if c.Parent() == parent {
			for _, name := range append(slices.Clip(c.Aliases), c.Name()) {
				names, byName[name] = append(names, name), path
			}
		}
	})
	if len(meant) > 0 {
		return meant[:min(len(meant), lookup.MaxNearest)]
	}
	for _, name := range lookup.Nearest(typed, names) {
		if !slices.Contains(meant, byName[name]) {
			meant = append(meant, byName[name])
		}
	}
	return meant
}

// eachCommand calls f with the visible commands of a group, and then with those below them.
func eachCommand(group *cobra.Command, f func(*cobra.Command)) {
	var visible []*cobra.Command
	for _, c := range group.Commands() {
		if !c.Hidden && c.Name() != "help" && c.Name() != "completion" {
			visible = append(visible, c)
			f(c)
		}
	}
	for _, c := range visible {
		eachCommand(c, f)
	}
}

// foreignFlags are flags of other programs, with what to write in their place.
var foreignFlags = map[string]string{
	"json": "-o json", "yaml": "-o yaml", "format": "-o", "write-out": "-o", "template": "-o template=TEMPLATE",
	"address": "--agent", "addr": "--agent", "http-addr": "--agent", "server": "--agent", "host": "--agent",
	"ns": "--namespace", "label": "--tag", "labels": "--tag", "selector": "--tag or --filter",
	"follow": "--watch", "all": "--all-namespaces", "debug": "--verbose", "port": "HOST:PORT",
}

// explainFlag puts an error of pflag into plain words, and suggests a flag in place of one that a
// command does not have. What is before the flag may be no command at all, which is then the first
// mistake.
func explainFlag(c *cobra.Command, err error) error {
	if group := c.HasSubCommands() && c.Use == c.Name(); group && c.Flags().NArg() > 0 {
		return rejectUnknownCommand(c, c.Flags().Args())
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return explainFlagValue(err)
	}
	var names, shown []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	typed := unknown.GetSpecifiedName()
	for _, name := range lookup.Nearest(typed, names) {
		shown = append(shown, "'--"+name+"'")
	}
	if known, ok := foreignFlags[typed]; ok && len(shown) == 0 && takesFlag(c, names, known) {
		shown = []string{"'" + known + "'"}
	}
	return fmt.Errorf("%w%s", err, lookup.Suggest(shown))
}

// takesFlag reports whether a command with these flags takes what stands for a foreign flag: a flag
// of its own, or an argument.
func takesFlag(c *cobra.Command, names []string, known string) bool {
	if argument := !strings.HasPrefix(known, "-"); argument {
		return strings.Contains(c.Use, known)
	}
	name, long := strings.CutPrefix(known, "--")
	name, _, _ = strings.Cut(name, " ")
	return long && slices.Contains(names, name) || strings.HasPrefix(known, "-o") && slices.Contains(names, "output")
}

// unknownService returns the error for a service of which nothing is known. It suggests those
// of the known ones that have similar names.
func (a *app) unknownService(service string, known []string) error {
	return discovery.Errorf(discovery.ErrNotFound, "service %q is not known in namespace %q%s", service, a.config.Namespace, similarServices(service, known))
}

// similarServices returns the end of an error about an unknown service.
func similarServices(service string, known []string) string {
	if hint := lookup.DidYouMean(lookup.Nearest(service, known)); hint != "" {
		return hint
	}
	return "; see 'disc list'"
}

// unknownInstance returns the error for an instance that a service does not have. It suggests
// those with similar ids.
func unknownInstance(service, id string, entries []view.Entry) error {
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	hint := lookup.DidYouMean(lookup.Nearest(id, ids))
	if hint == "" {
		hint = fmt.Sprintf("; see 'disc list %s'", service)
	}
	return discovery.Errorf(discovery.ErrNotFound, "instance %q of service %q is not known%s", id, service, hint)
}
