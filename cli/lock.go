package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/cli/child"
	"disc/discovery"
	"disc/discovery/retry"
)

type lockOptions struct {
	wait        time.Duration // 0: for ever
	try         bool
	shared      int
	killTimeout time.Duration
}

func (a *app) lockCommand() *cobra.Command {
	var o lockOptions
	c := &cobra.Command{
		Use:   "lock NAME [flags] -- COMMAND...",
		Short: "Run a command while holding a lock",
		Long: `Run a command while holding a lock that the whole fleet knows: one 'disc lock' of a
name runs its command at a time, on whichever host; the others wait, in the order in
which they asked. With --shared N, N of them run at once; all who ask for the name must
say the same N.

The lock is held by this host's agent, under its session with etcd, for as long as the
command runs. When it cannot be relied on for much longer (the agent does not answer, or
has lost etcd), the command is stopped before anybody else can get the lock: SIGTERM,
and SIGKILL when time is up.

No lock service can keep a command that was suspended from going on when it is woken,
later than it believes. What must never be done twice needs the fence: DISC_FENCE in the
command's environment is higher than that of any holder before, and what the lock
guards is to refuse a lower one than it has seen.

SIGTERM and SIGINT stop the command, with SIGKILL after the kill timeout. Other signals
are passed on, and what the command leaves running ends with it, as in 'disc run'.

Exit code: the command's, 128 and the number of the signal that killed it, 126 or 127
when it cannot be started; 4 when the lock was not had in time, 5 when somebody else has
it (--try) or it was lost while the command ran.`,
		Example: `  disc lock nightly-report -- ./report
  disc lock migrate --try -- ./migrate
  disc lock gpu --shared 4 --wait 10m -- ./train`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, args); err != nil {
				return usage(err)
			}
			if !cmd.Flags().Changed("kill-timeout") {
				o.killTimeout = a.config.KillTimeout
			}
			return a.lock(cmd.Context(), args[0], args[1:], o)
		},
	}
	f := c.Flags()
	f.DurationVar(&o.wait, "wait", 0, "wait at most this long (default for ever)")
	f.BoolVar(&o.try, "try", false, "do not wait")
	f.IntVar(&o.shared, "shared", 1, "so many may hold it at once")
	f.DurationVar(&o.killTimeout, "kill-timeout", 0, "time between TERM and KILL (default the setting kill_timeout)")
	return c
}

func (o *lockOptions) check(cmd *cobra.Command, args []string) error {
	dash := cmd.ArgsLenAtDash()
	switch {
	case dash != 1 || len(args) < 2:
		return errors.New("write 'disc lock NAME -- COMMAND...': one name before the dashes, and the command after them")
	case o.try && cmd.Flags().Changed("wait"):
		return errors.New("--try does not wait; give one of --try and --wait")
	case cmd.Flags().Changed("wait") && o.wait <= 0:
		return errors.New("--wait is more than 0; use --try not to wait")
	case o.shared < 1:
		return errors.New("--shared is at least 1")
	case o.killTimeout < 0:
		return errors.New("--kill-timeout is at least 0")
	}
	return discovery.ValidateLock(args[0])
}

// lock runs a command under a lock.
func (a *app) lock(ctx context.Context, name string, command []string, o lockOptions) error {
	client, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	held, err := a.acquireLock(ctx, client, name, o)
	if err != nil {
		return err
	}
	defer held.Close()
	defer a.release(ctx, "lock "+strconv.Quote(name), func(ctx context.Context) error { return client.Unlock(ctx, name, held.ID) })
	env := append(os.Environ(), "DISC_LOCK="+name, "DISC_FENCE="+strconv.FormatInt(held.Fence, 10))
	g := guardedCommand{
		awaitEnd: held.Wait, killTimeout: o.killTimeout, interactive: isTerminal(a.io.In),
		renew: func(ctx context.Context) (time.Duration, error) {
			l, err := client.RenewLock(ctx, name, held.ID)
			return time.Duration(l.ValidFor), err
		},
	}
	status, err := g.run(ctx, child.Command{Args: command, Env: env, Grace: o.killTimeout})
	if err != nil {
		return err
	}
	return exitWith(status.Code)
}

// acquireLock waits for the lock. An agent that goes away meanwhile is asked again when it
// is back; the place in the queue is lost then.
func (a *app) acquireLock(ctx context.Context, client *api.Client, name string, o lockOptions) (*api.HeldLock, error) {
	begun := time.Now()
	for retry := (retry.Backoff{}); ; {
		wait := api.MaxLockWait
		if o.try {
			wait = 0
		} else if o.wait > 0 {
			wait = max(o.wait-time.Since(begun), time.Millisecond)
		}
		asked := time.Now()
		held, err := openGrant(ctx, func(ctx context.Context) (*api.HeldLock, error) {
			return client.HoldLock(ctx, name, api.LockOptions{Wait: wait, Shared: o.shared})
		})
		waited := errors.Is(err, discovery.ErrConflict) && time.Since(asked) >= wait
		away := errors.Is(err, discovery.ErrUnavailable)
		switch {
		case err == nil, o.try, ctx.Err() != nil, !waited && !away:
			return held, err
		case o.wait > 0 && time.Since(begun) >= o.wait:
			return nil, fmt.Errorf("%w after %v: %w", errTimedOut, o.wait, err)
		}
		if retry.Failed() && away {
			a.infof("lock %q cannot be asked for: %v; trying again", name, err)
		}
		if err := retry.Wait(ctx); err != nil {
			return nil, err
		}
	}
}
