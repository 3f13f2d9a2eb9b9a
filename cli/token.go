package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"disc/agent/access"
)

type tokenOptions struct {
	scopes []string
	file   string
}

func (a *app) tokenCommand() *cobra.Command {
	var o tokenOptions
	c := &cobra.Command{
		Use:   "token NAME --scope SCOPE",
		Short: "Make a token for an agent's API",
		Long: `Make a token for an agent's API. With --file the token goes to a new file, which only
you can read, and the entry for the agent's config file to stdout. The entry has only the
SHA-256 of the token, from which nobody can find the token. Put it below the http.tokens
of the config file, if it has some already: the file has one http and one tokens in it.
Then reload the agent with SIGHUP. Its log shows NAME.

Without --file the token goes to stdout, once, and the entry to stderr.

Scopes:

  read              look up services, watch them, show locks, claims and limits
  status            the agent's settings and errors, and the outputs of its checks
  register:SERVICE  register and deregister instances, report checks and load
  kv:KEY, kv:DIR/   write and read keys; kv-read only reads
  lock:NAME         take, renew and release locks
  claim:SERVICE     claim instances
  take:LIMIT        take tokens of a rate limit
  operate           overrides, limits, breaking locks, quarantines, profiles
  all               all of these

Without a colon, a scope is for every service, key, lock or limit. A name that ends in *
is for all that begin so.`,
		Example: `  disc token ci --scope register:web --scope kv:app/ --file ci.token
  disc token ops --scope all --file ops.token`,
		Args:        cobra.ExactArgs(1),
		Annotations: map[string]string{withoutConfig: "true"},
		RunE:        func(_ *cobra.Command, args []string) error { return a.makeToken(args[0], o) },
	}
	c.Flags().StringArrayVar(&o.scopes, "scope", nil, "what the token may do; repeat it for several")
	c.Flags().StringVar(&o.file, "file", "", "new file for the token")
	return c
}

// makeToken makes a token, and prints it and its entry of the config file.
func (a *app) makeToken(name string, o tokenOptions) error {
	if err := access.ValidateName(name); err != nil {
		return usage(err)
	}
	if len(o.scopes) == 0 {
		return usage(errors.New("give at least one --scope; 'disc token --help' lists them"))
	}
	var scopes []access.Scope
	for _, text := range o.scopes {
		s, err := access.ParseScope(text)
		if err != nil {
			return usage(err)
		}
		scopes = append(scopes, s)
	}
	token := access.NewToken()
	entry, err := tokenEntry(name, access.DigestOf(token), scopes)
	if err != nil {
		return err
	}
	if o.file != "" {
		if err := writeSecret(o.file, token); err != nil {
			return err
		}
		_, err := a.io.Out.Write(entry)
		return err
	}
	a.infof("put this into the agent's config file, below its http.tokens, and reload the agent with SIGHUP:")
	if _, err := a.io.Err.Write(entry); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.io.Out, token)
	return err
}

// tokenEntry returns the entry of a token as the config file has it.
func tokenEntry(name string, digest access.Digest, scopes []access.Scope) ([]byte, error) {
	type entry struct {
		Name   string         `yaml:"name"`
		SHA256 string         `yaml:"sha256"`
		Scopes []access.Scope `yaml:"scopes,flow"`
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	err := e.Encode(map[string]any{"http": map[string]any{"tokens": []entry{{name, digest.Hex(), scopes}}}})
	return b.Bytes(), errors.Join(err, e.Close())
}

// writeSecret writes a text and a newline to a new file, which only its owner can read.
func writeSecret(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	_, err = fmt.Fprintln(f, text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the token: %w", err), os.Remove(name))
	}
	return nil
}
