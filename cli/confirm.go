package cli

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

// confirm asks a question on the terminal, unless yes is given. It returns an error if the answer is
// not yes, or if nobody can be asked.
func (a *app) confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if !isTerminal(a.io.In) || !a.io.Terminal {
		return usage(errors.New("nobody can be asked, since this is no terminal; give --yes"))
	}
	fmt.Fprint(a.io.Err, printable(question)+" [y/N] ")
	line, _ := bufio.NewReader(a.io.In).ReadString('\n') // what was typed before an error is no yes
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}
