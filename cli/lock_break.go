package cli

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lock"
)

type breakOptions struct {
	holder string
	now    bool
	noWait bool
}

func (a *app) lockBreakCommand() *cobra.Command {
	var o breakOptions
	c := &cobra.Command{
		Use:   "break NAME",
		Short: "Take a lock away from its holder",
		Long: `Take a lock away from its holder. The holder is told at once that the lock is lost; 'disc
lock' stops its command. The next caller gets the lock once the holder cannot rely on it
any more: within a minute, even if the holder or its agent hangs.

Then this command ends. If it is interrupted before, or with --no-wait, the callers that
wait for the lock see to it.

With --now, the next caller gets the lock at once. Two may hold it meanwhile, and only the
fence keeps them apart: use it if you know that the holder is gone.

The command speaks to etcd. Exit code 3 if nobody holds the lock.`,
		Example: `  disc lock break nightly-report
  disc lock break gpu --holder 694d9aa1c2ab8e07-s3jvnv`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case cmd.ArgsLenAtDash() >= 0:
				return usage(errors.New("to take a lock named break, write 'disc lock -- break -- COMMAND...'"))
			case o.now && o.noWait:
				return usage(errors.New("--now does not wait; leave out --no-wait"))
			}
			if err := discovery.ValidateLock(args[0]); err != nil {
				return usage(err)
			}
			return a.breakLock(cmd.Context(), args[0], o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.holder, "holder", "", "holder of a shared lock: its id, or the beginning as in 'disc lock list'")
	f.BoolVar(&o.now, "now", false, "give the lock to the next at once, although its holder may still rely on it")
	f.BoolVar(&o.noWait, "no-wait", false, "do not wait until the lock is free")
	return c
}

// brokenLock is the outcome of a break, as -o json shows it.
type brokenLock struct {
	Lock   string `json:"lock"`
	Holder string `json:"holder"`
	Node   string `json:"node,omitempty"`
	Fence  int64  `json:"fence"`
	Gone   bool   `json:"gone"` // the holder's key is removed
}

func (a *app) breakLock(ctx context.Context, name string, o breakOptions) error {
	b, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (lock.Breakage, error) {
		return lock.Break(ctx, client, a.keys(), name, lock.BreakRequest{Holder: o.holder, Now: o.now, By: a.operator()})
	})
	if err != nil {
		return err
	}
	held := fmt.Sprintf("%s: broken; %s on node %s held it with fence %d", name, b.Holder.Holder, b.Holder.Node, b.Holder.Fence)
	switch {
	case o.now:
		a.infof("%s may still rely on lock %q: until its agent has told it, two may hold the lock", b.Holder.Holder, name)
	case b.Within > 0 && o.noWait:
		held += fmt.Sprintf(", and keeps it for %v at most", b.Within)
	case b.Within > 0:
		a.infof("%s; waiting until it cannot rely on it any more, for %v at most", held, b.Within)
		if err := a.awaitBreak(ctx, b); err != nil {
			return fmt.Errorf("lock %q is broken, but its holder still has it: %w", name, err)
		}
		b.Within = 0
	}
	return show(a, listing[brokenLock]{
		items:  []brokenLock{{name, b.Holder.Holder, b.Holder.Node, b.Holder.Fence, b.Within == 0}},
		single: true, name: func(l brokenLock) string { return l.Lock }, line: printable(held),
	})
}

// awaitBreak waits until the holder's key is gone. It removes the key when nobody else does in
// time.
func (a *app) awaitBreak(ctx context.Context, b lock.Breakage) error {
	client, err := a.etcd(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	end := uptime() + b.Within
	waiting, cancel := context.WithTimeout(ctx, b.Within)
	defer cancel()
	err = b.Await(waiting, client)
	if err == nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	select {
	case <-time.After(end - uptime()):
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err = b.Remove(ctx, client)
	return a.explain(err)
}

// operator returns who runs this program, such as root@host-1.
func (a *app) operator() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return name + "@" + a.config.Node
}
