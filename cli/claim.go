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
)

type claimOptions struct {
	api.ClaimOptions
	killTimeout time.Duration
}

func (a *app) claimCommand() *cobra.Command {
	var o claimOptions
	c := &cobra.Command{
		Use:   "claim [--] SERVICE [flags] [-- COMMAND...]",
		Short: "Claim an instance for exclusive use",
		Long: `Claim a free slot of a healthy instance. An instance accepts as many claims at once as
its registration has slots, by default one. This host's agent holds the claim, under its
session with etcd.

With a command, the claim lasts while the command runs. The command's environment has
the instance in DISC_ADDRESS (host:port) and DISC_INSTANCE, the claim's id in DISC_CLAIM,
and its fence in DISC_FENCE, which is higher than the fence of any earlier claim on the
slot. If the instance is gone or the claim is about to expire, the command is stopped.

Without a command, the claim is printed and lasts for --ttl. PUT /v1/claims/CLAIM at the
agent renews it within that time; DELETE releases it.

A service that is named as a subcommand is claimed by 'disc claim -- SERVICE'.

Exit code: the command's; 1 if no slot is free, 3 if the service is unknown, 4 if no slot
became free in time, 5 if the claim was lost while the command ran.`,
		Example: `  disc claim gpu -- sh -c 'curl http://$DISC_ADDRESS/work'
  disc claim gpu --wait 30s --prefer-zone -- ./train
  disc claim gpu --ttl 5m -o json`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, dash := nameBeforeCommand(args, cmd.ArgsLenAtDash())
			if err := o.check(cmd, args, dash); err != nil {
				return usage(err)
			}
			if !cmd.Flags().Changed("kill-timeout") {
				o.killTimeout = a.config.KillTimeout
			}
			if len(args) == 1 {
				return a.printClaim(cmd.Context(), args[0], o)
			}
			return a.claim(cmd.Context(), args[0], args[1:], o)
		},
	}
	f := c.Flags()
	f.DurationVar(&o.Wait, "wait", 0, "maximum time to wait for a free slot (default: do not wait)")
	f.DurationVar(&o.TTL, "ttl", api.DefaultTTL, "without a command: time that the claim lasts")
	f.BoolVar(&o.PreferZone, "prefer-zone", false, "prefer instances of the agent's own zone")
	f.DurationVar(&o.killTimeout, "kill-timeout", 0, "time between SIGTERM and SIGKILL (default the setting kill_timeout)")
	c.AddCommand(a.claimListCommand())
	return c
}

func (o *claimOptions) check(cmd *cobra.Command, args []string, dash int) error {
	switch {
	case len(args) > 1 && dash != 1, dash == 1 && len(args) == 1:
		return errors.New("write 'disc claim SERVICE -- COMMAND...': one service before the dashes, and the command after them")
	case dash >= 0 && cmd.Flags().Changed("ttl"):
		return errors.New("--ttl does not go with a command: the claim lasts while the command runs")
	case o.Wait < 0 || o.Wait > api.MaxWait:
		return fmt.Errorf("--wait must be 0 to %v", api.MaxWait)
	case o.TTL < api.MinTTL || o.TTL > api.MaxTTL:
		return fmt.Errorf("--ttl must be %v to %v", api.MinTTL, api.MaxTTL)
	case o.killTimeout < 0:
		return errors.New("--kill-timeout must not be negative")
	}
	return discovery.ValidateService(args[0])
}

// printClaim claims an instance and prints the claim.
func (a *app) printClaim(ctx context.Context, service string, o claimOptions) error {
	client, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	stop := a.sayWaiting(service, o)
	claim, err := client.Claim(ctx, service, o.ClaimOptions)
	stop()
	if err != nil {
		return o.waitError(ctx, service, err)
	}
	return show(a, listing[api.Claim]{items: []api.Claim{claim}, single: true, columns: []column[api.Claim]{
		{header: "CLAIM", value: func(c api.Claim) string { return c.ID }},
		{header: "INSTANCE", value: func(c api.Claim) string { return c.Endpoint.ID }},
		{header: "ADDRESS", value: func(c api.Claim) string { return endpointAddress(c.Endpoint) }},
		{header: "SLOT", value: func(c api.Claim) string { return strconv.Itoa(c.Slot) }},
		{header: "FENCE", value: func(c api.Claim) string { return strconv.FormatInt(c.Fence, 10) }},
		{header: "TTL", value: func(c api.Claim) string { return c.TTL.String() }},
	},
		name: func(c api.Claim) string { return c.ID },
		addr: func(c api.Claim) string { return endpointAddress(c.Endpoint) },
	})
}

// sayWaiting says on a terminal that a claim is waited for, until stop is called.
func (a *app) sayWaiting(service string, o claimOptions) (stop func()) {
	if o.Wait == 0 {
		return func() {}
	}
	return a.progressLater("waiting for a claim of %q", service)
}

// waitError returns err as a timeout if the agent has waited and no slot became free, and as
// the end of the wait if a signal ended it.
func (o *claimOptions) waitError(ctx context.Context, service string, err error) error {
	if ctx.Err() != nil {
		return stoppedWhile(ctx, err, "waiting for a claim of %q", service)
	}
	if problem := (*api.Problem)(nil); o.Wait > 0 && errors.As(err, &problem) && errors.Is(err, discovery.ErrUnavailable) {
		return fmt.Errorf("%w after %v: %w", errTimedOut, o.Wait, err)
	}
	return err
}

// claim runs a command while it holds a claim on an instance.
func (a *app) claim(ctx context.Context, service string, command []string, o claimOptions) error {
	client, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	o.TTL = 0
	stop := a.sayWaiting(service, o)
	claim, err := openGrant(ctx, func(ctx context.Context) (*api.HeldClaim, error) {
		return client.HoldClaim(ctx, service, o.ClaimOptions)
	})
	stop()
	if err != nil {
		return o.waitError(ctx, service, err)
	}
	defer claim.Close()
	id := claim.Claim.ID
	g := guardedCommand{
		grant: "claim of " + claim.Endpoint.ID, awaitEnd: claim.Wait, killTimeout: o.killTimeout,
		renew: func(ctx context.Context) (time.Duration, error) {
			c, err := client.RenewClaim(ctx, id)
			return time.Duration(c.ValidFor), err
		},
		release: func(ctx context.Context) error { return client.ReleaseClaim(ctx, id) },
	}
	return a.runGuarded(ctx, g, command, []string{
		"DISC_CLAIM=" + id, "DISC_FENCE=" + strconv.FormatInt(claim.Fence, 10),
		"DISC_SERVICE=" + service, "DISC_INSTANCE=" + claim.Endpoint.ID, "DISC_ADDRESS=" + endpointAddress(claim.Endpoint),
	})
}
