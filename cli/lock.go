package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/retry"
)

type lockOptions struct {
	wait        time.Duration // 0: forever
	try         bool
	shared      int
	killTimeout time.Duration
}

func (a *app) lockCommand() *cobra.Command {
	var o lockOptions
	c := &cobra.Command{
		Use:   "lock [--] NAME [flags] -- COMMAND...",
		Short: "Run a command while holding a lock",
		Long: `Run a command while holding a lock of the whole fleet. Of all hosts, one 'disc lock' of
a name runs its command at a time; the others wait in the order of their requests. With
--shared N, up to N run at once; all requests for a name must give the same N.

This host's agent holds the lock, under its session with etcd, while the command runs.
If the lock is about to expire (the agent does not answer, or has lost etcd), the
command is stopped before anybody else can get the lock: by SIGTERM, and by SIGKILL when
time is up.

No lock service can prevent a suspended command from continuing when it wakes up, even
if the lock has expired by then. Work that must never be done twice needs the fence:
DISC_FENCE in the command's environment is higher than the fence of any earlier holder.
Let the resource that the lock protects refuse a fence lower than one that it has seen.

SIGTERM and SIGINT stop the command; SIGKILL follows after the kill timeout. Other
signals are forwarded to the command. Its descendants end with it, as in 'disc run'.

A lock that is named as a subcommand is taken by 'disc lock -- NAME -- COMMAND...'.

Exit code: the command's, 128 plus the number of the signal that killed it, 126 or 127
if it cannot be started; 4 if the lock could not be acquired in time, 5 if somebody else
holds it (--try) or it was lost while the command ran.`,
		Example: `  disc lock nightly-report -- ./report
  disc lock migrate --try -- ./migrate
  disc lock gpu --shared 4 --wait 10m -- ./train`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			args, dash := nameBeforeCommand(args, cmd.ArgsLenAtDash())
			if err := o.check(cmd, args, dash); err != nil {
				return usage(err)
			}
			if !cmd.Flags().Changed("kill-timeout") {
				o.killTimeout = a.config.KillTimeout
			}
			return a.lock(cmd.Context(), args[0], args[1:], o)
		},
	}
	f := c.Flags()
	f.DurationVar(&o.wait, "wait", 0, "maximum time to wait for the lock (default forever)")
	f.BoolVar(&o.try, "try", false, "do not wait for the lock")
	f.IntVar(&o.shared, "shared", 1, "number of commands that may hold the lock at once")
	f.DurationVar(&o.killTimeout, "kill-timeout", 0, "time between SIGTERM and SIGKILL (default the setting kill_timeout)")
	c.AddCommand(a.lockListCommand(), a.lockBreakCommand(), a.lockQuarantineCommand())
	return c
}

// nameBeforeCommand returns the arguments NAME COMMAND... of a command line, and how many of
// them are before the dashes. In '-- NAME -- COMMAND...' the first dashes only keep NAME from
// being taken for a subcommand.
func nameBeforeCommand(args []string, dash int) ([]string, int) {
	switch {
	case dash != 0:
		return args, dash
	case len(args) == 1:
		return args, -1
	case len(args) > 1 && args[1] == "--":
		return append(args[:1:1], args[2:]...), 1
	}
	return args, dash
}

func (o *lockOptions) check(cmd *cobra.Command, args []string, dash int) error {
	switch {
	case dash != 1 || len(args) < 2:
		return errors.New("write 'disc lock NAME -- COMMAND...': one name before the dashes, and the command after them")
	case o.try && cmd.Flags().Changed("wait"):
		return errors.New("--try does not wait; give only one of --try and --wait")
	case cmd.Flags().Changed("wait") && o.wait <= 0:
		return errors.New("--wait must be above 0; use --try not to wait")
	case o.shared < 1:
		return errors.New("--shared must be at least 1")
	case o.killTimeout < 0:
		return errors.New("--kill-timeout must not be negative")
	}
	return discovery.ValidateLock(args[0])
}

// lock runs a command while it holds the lock.
func (a *app) lock(ctx context.Context, name string, command []string, o lockOptions) error {
	client, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	lock, err := a.acquireLock(ctx, client, name, o)
	if err != nil {
		return err
	}
	defer lock.Close()
	g := guardedCommand{
		grant: "lock " + strconv.Quote(name), awaitEnd: lock.Wait, killTimeout: o.killTimeout,
		renew: func(ctx context.Context) (time.Duration, error) {
			l, err := client.RenewLock(ctx, name, lock.ID)
			return time.Duration(l.ValidFor), err
		},
		release: func(ctx context.Context) error { return client.Unlock(ctx, name, lock.ID) },
	}
	return a.runGuarded(ctx, g, command, []string{"DISC_LOCK=" + name, "DISC_FENCE=" + strconv.FormatInt(lock.Fence, 10)})
}

// acquireLock waits for the lock. If the agent becomes unavailable meanwhile, it is asked
// again later; the place in the queue is then lost.
func (a *app) acquireLock(ctx context.Context, client *api.Client, name string, o lockOptions) (*api.HeldLock, error) {
	if !o.try {
		defer a.progressLater("waiting for lock %q", name)()
	}
	start := time.Now()
	for backoff := (retry.Backoff{}); ; {
		wait := api.MaxLockWait
		if o.try {
			wait = 0
		} else if o.wait > 0 {
			wait = max(o.wait-time.Since(start), time.Millisecond)
		}
		asked := time.Now()
		lock, err := openGrant(ctx, func(ctx context.Context) (*api.HeldLock, error) {
			return client.HoldLock(ctx, name, api.LockOptions{Wait: wait, Shared: o.shared})
		})
		waited := errors.Is(err, discovery.ErrConflict) && time.Since(asked) >= wait
		unavailable := worthRetrying(err)
		switch {
		case err == nil:
			return lock, nil
		case ctx.Err() != nil:
			return nil, stoppedWhile(ctx, err, "waiting for lock %q", name)
		case o.try, !waited && !unavailable:
			return nil, err
		case o.wait > 0 && time.Since(start) >= o.wait:
			return nil, fmt.Errorf("%w after %v: %w", errTimedOut, o.wait, err)
		}
		if backoff.Failed() && unavailable {
			a.infof("request lock %q: %v; trying again", name, err)
		}
		if err := backoff.Wait(ctx); err != nil {
			return nil, stoppedWhile(ctx, err, "waiting for lock %q", name)
		}
	}
}
