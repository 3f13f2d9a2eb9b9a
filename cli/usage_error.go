package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// explainArgs returns an error of cobra about the number of arguments in plain words, and
// other errors as they are.
func explainArgs(cmd *cobra.Command, err error) error {
	text, args := err.Error(), cmd.Flags().Args()
	switch {
	case strings.HasPrefix(text, "unknown command ") && !cmd.HasSubCommands():
		return fmt.Errorf("'%s' takes no arguments, and %q is one", cmd.CommandPath(), args[0])
	case !strings.HasPrefix(text, "accepts ") && !strings.HasPrefix(text, "requires at least "):
		return err
	}
	given := fmt.Sprintf("%d arguments are given", len(args))
	switch len(args) {
	case 0:
		given = "an argument is missing"
	case 1:
		given = "one argument is given"
	}
	return fmt.Errorf("%s; write '%s'", given, strings.TrimSuffix(cmd.UseLine(), " [flags]"))
}

// explainFlagValue returns an error of pflag about the value of a flag in plain words, and other
// errors as they are.
func explainFlagValue(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	return fmt.Errorf("flag --%s: %s", invalid.GetFlag().Name, explainValue(invalid.GetFlag().Value.Type(), invalid.GetValue(), invalid.Unwrap()))
}

func explainValue(kind, value string, cause error) string {
	switch {
	case errors.Is(cause, strconv.ErrRange):
		return fmt.Sprintf("%q is out of range", value)
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return fmt.Sprintf("%q is not a whole number", value)
	case strings.HasPrefix(kind, "float"):
		return fmt.Sprintf("%q is not a number", value)
	case kind == "bool":
		return fmt.Sprintf("%q is neither true nor false", value)
	case kind == "duration":
		return fmt.Sprintf("%q is not a length of time; write it as 500ms, 30s or 5m", value)
	}
	return cause.Error()
}
