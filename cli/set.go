package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.yaml.in/yaml/v3"

	"disc/config/input"
	"disc/discovery"
	"disc/discovery/entry"
)

type setOptions struct {
	service, id string
	address     string // HOST:PORT or HOST; "": an override
	file        string
	weight      *int
	tags        []string // nil: unchanged
	meta        []string // k=v, or k- to remove
	zone        *string
	state       string
	entry.Options
}

func (a *app) setCommand() *cobra.Command {
	var o setOptions
	var weight int
	var zone string
	var ifRevision func() *int64
	c := &cobra.Command{
		Use:        "set SERVICE/ID [HOST:PORT]",
		SuggestFor: []string{"put", "register", "add", "create", "edit", "apply", "update", "override"},
		Short:      "Create a static entry, or override an instance",
		Long: `With an address, create or change a static entry: an instance without an agent, which
lasts until it is removed or its --ttl ends. Without an address, override an instance:
its state, weight, tags and meta, on top of the record of its agent.

Fields that are not given stay as they are. The command prints the changes.

Exit code 5 if an address is given for an instance of an agent, or the entry is not at
--if-revision.`,
		Example: `  disc set db/primary 10.0.0.5:5432 --tag primary --zone a
  disc set web/web-1 --weight 10 --meta canary=yes
  disc set web/web-1 --state drain
  disc set web/web-1 --meta canary- --dry-run
  disc set db/primary -f db.yaml --ttl 1h`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.service, o.id, err = parseTarget(args[0]); err != nil {
				return err
			}
			if len(args) == 2 {
				o.address = args[1]
			}
			o.IfRevision = ifRevision()
			o.applyChanged(cmd.Flags(), weight, zone)
			if err := o.validate(); err != nil {
				return usage(err)
			}
			return a.set(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.IntVar(&weight, "weight", 1, "0 to 65535; 0: used only if there is nothing else")
	f.StringSliceVar(&o.tags, "tag", nil, "tags, in place of the present ones; --tag '' for none")
	f.StringArrayVar(&o.meta, "meta", nil, "key=value to set, key- to remove")
	f.StringVar(&zone, "zone", "", "zone of a static entry")
	f.StringVar(&o.state, "state", "", "up, drain (no new callers) or down (in no answer)")
	f.DurationVar(&o.TTL, "ttl", 0, "remove a static entry after this time, at least 1s")
	f.StringVarP(&o.file, "file", "f", "", "file of a static entry, in YAML or JSON; - is stdin")
	f.BoolVar(&o.DryRun, "dry-run", false, "show the change without making it")
	ifRevision = addIfRevision(f, "change only if the entry is at this revision; 0: only if there is none")
	return c
}

// applyChanged sets the options whose zero value differs from an absent flag.
func (o *setOptions) applyChanged(f *pflag.FlagSet, weight int, zone string) {
	if f.Changed("weight") {
		o.weight = &weight
	}
	if f.Changed("zone") {
		o.zone = &zone
	}
	if f.Changed("tag") {
		o.tags = slices.DeleteFunc(append([]string{}, o.tags...), func(t string) bool { return t == "" })
	}
}

// isStatic reports whether the options are about a static entry.
func (o *setOptions) isStatic() bool { return o.address != "" || o.file != "" }

func (o *setOptions) validate() error {
	var errs []error
	if o.TTL != 0 && o.TTL < time.Second {
		errs = append(errs, fmt.Errorf("--ttl %v is below 1s", o.TTL))
	}
	if !o.isStatic() && (o.zone != nil || o.TTL != 0) {
		errs = append(errs, errors.New("--zone and --ttl are for static entries: give an address, HOST:PORT"))
	}
	if !o.isStatic() && o.weight == nil && o.tags == nil && len(o.meta) == 0 && o.state == "" {
		errs = append(errs, errors.New("nothing to set: give an address, --state, --weight, --tag or --meta"))
	}
	if o.weight != nil && (*o.weight < 0 || *o.weight > discovery.MaxWeight) {
		errs = append(errs, fmt.Errorf("--weight %d is out of range; use 0 to %d", *o.weight, discovery.MaxWeight))
	}
	if o.state != "" {
		errs = append(errs, discovery.State(o.state).Validate())
	}
	for _, m := range o.meta {
		if key, _, ok := strings.Cut(m, "="); key == "" || !ok && !strings.HasSuffix(m, "-") {
			errs = append(errs, fmt.Errorf("--meta %q is neither key=value nor key-", m))
		}
	}
	return errors.Join(errs...)
}

// check validates the edit by itself, before etcd is asked for the entry to edit.
func (o *setOptions) check(edit func(discovery.Instance) (discovery.Instance, error)) error {
	if !o.isStatic() {
		v, err := o.override(discovery.Override{})
		return errors.Join(err, v.Validate())
	}
	i, err := edit(discovery.Instance{Service: o.service, ID: o.id, Address: "localhost", Weight: 1, Slots: 1, Status: discovery.Passing})
	return errors.Join(err, i.Validate())
}

func (a *app) set(ctx context.Context, o setOptions) error {
	if strings.Contains(o.service, ".") {
		a.infof("service %q has a dot in its name: DNS cannot look it up; /v1/services and this command can", o.service)
	}
	edit, err := o.staticEdit(ctx, a.io.In)
	if err == nil {
		err = o.check(edit)
	}
	if err != nil {
		return err
	}
	change, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (entry.Change, error) {
		editor := entry.Editor{Client: client, Keys: a.keys()}
		if o.isStatic() {
			change, err := editor.PutStatic(ctx, o.service, o.id, edit, o.Options)
			if err == nil && o.state != "" {
				change, err = o.overrideState(ctx, editor, change)
			}
			return change, err
		}
		return editor.Override(ctx, o.service, o.id, o.override, o.Options)
	})
	if err != nil {
		return err
	}
	return a.showEdit(o.service+"/"+o.id, change, o.DryRun)
}

// overrideState overrides the state of the static entry that put has written.
func (o *setOptions) overrideState(ctx context.Context, editor entry.Editor, put entry.Change) (entry.Change, error) {
	if o.DryRun {
		after := *put.After
		after.State = discovery.State(o.state)
		put.After = &after
		return put, nil
	}
	state := setOptions{state: o.state}
	change, err := editor.Override(ctx, o.service, o.id, state.override, entry.Options{})
	if err != nil {
		return put, fmt.Errorf("the static entry is written, but not its state: %w", err)
	}
	return entry.Change{Before: put.Before, After: change.After, Revision: max(put.Revision, change.Revision)}, nil
}

// staticEdit returns a function that edits a static entry by the file and then the flags.
func (o *setOptions) staticEdit(ctx context.Context, in io.Reader) (func(discovery.Instance) (discovery.Instance, error), error) {
	var from *discovery.Registration
	if o.file != "" {
		r, err := readEntry(ctx, o.file, in)
		if err != nil {
			return nil, err
		}
		if r.Service != "" && discovery.FoldName(r.Service) != discovery.FoldName(o.service) || r.ID != "" && r.ID != o.id {
			return nil, discovery.Errorf(discovery.ErrInvalid, "%s is about %s/%s, not %s/%s", o.file, r.Service, r.ID, o.service, o.id)
		}
		from = &r
	}
	return func(i discovery.Instance) (discovery.Instance, error) {
		if from != nil {
			registered := from.Instance()
			registered.Service, registered.ID = i.Service, i.ID
			i = registered
		}
		if o.address != "" {
			if err := setAddress(&i, o.address); err != nil {
				return i, err
			}
		}
		if o.weight != nil {
			i.Weight = *o.weight
		}
		if o.tags != nil {
			i.Tags = o.tags
		}
		if o.zone != nil {
			i.Zone = *o.zone
		}
		i.Meta = o.editMeta(i.Meta)
		return i, nil
	}, nil
}

// setAddress sets the address, and the port if one is given.
func setAddress(i *discovery.Instance, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		i.Address = discovery.CanonicalAddress(strings.Trim(address, "[]"))
		return nil
	}
	i.Address = discovery.CanonicalAddress(host)
	i.Port, err = strconv.Atoi(port)
	switch {
	case err != nil:
		return discovery.Errorf(discovery.ErrInvalid, "address %q: port %q is not a number", address, port)
	case i.Port == 0:
		return discovery.Errorf(discovery.ErrInvalid, "address %q: port 0 is none; give 1 to 65535, or leave it out to keep the present one", address)
	}
	return nil
}

// readEntry reads a static entry in the form of a registration. It refuses unknown fields.
func readEntry(ctx context.Context, file string, in io.Reader) (discovery.Registration, error) {
	var r discovery.Registration
	var b []byte
	var err error
	if file == "-" {
		b, err = input.ReadAll(ctx, in, "stdin", input.MaxEntry)
	} else {
		b, err = input.ReadFile(ctx, file, input.MaxEntry)
	}
	if err != nil {
		return r, err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&r); err != nil {
		return r, discovery.Errorf(discovery.ErrInvalid, "%s: %v", file, err)
	}
	if len(r.Checks) > 0 || r.DeregisterAfter != nil {
		return r, discovery.Errorf(discovery.ErrInvalid, "%s: a static entry has no agent that could check it; remove checks and deregister_after, or register it through an agent", file)
	}
	return r, nil
}

// override edits an override by the options.
func (o *setOptions) override(v discovery.Override) (discovery.Override, error) {
	if o.state != "" {
		v.State = discovery.State(o.state)
		if v.State == discovery.Up {
			v.State = "" // nothing to override
		}
	}
	if o.weight != nil {
		v.Weight = o.weight
	}
	if o.tags != nil {
		v.Tags = o.tags
	}
	v.Meta = o.editMeta(v.Meta)
	return v, nil
}

// editMeta returns meta with the changes of --meta.
func (o *setOptions) editMeta(meta discovery.Meta) discovery.Meta {
	if len(o.meta) == 0 {
		return meta
	}
	edited := maps.Clone(meta)
	if edited == nil {
		edited = discovery.Meta{}
	}
	for _, m := range o.meta {
		if key, value, ok := strings.Cut(m, "="); ok {
			edited[key] = value
		} else {
			delete(edited, strings.TrimSuffix(m, "-"))
		}
	}
	return edited
}
