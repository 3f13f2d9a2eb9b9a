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
)

type claimOptions struct {
	api.ClaimOptions
	killTimeout time.Duration
}

func (a *app) claimCommand() *cobra.Command {
	var o claimOptions
	c := &cobra.Command{
		Use:   "claim SERVICE [flags] [-- COMMAND...]",
		Short: "Claim an instance that nobody else uses",
		Long: `Claim a free slot of a healthy instance: an instance takes as many claims at once as
its registration has slots, one by default. This host's agent holds the claim, under its
session with etcd.

With a command, the claim lasts for as long as that runs. The command finds the instance
in DISC_ADDRESS (host:port) and DISC_INSTANCE, the claim's id in DISC_CLAIM and its fence
in DISC_FENCE: higher than that of any claim on the slot before. When the instance is
gone, or the claim cannot be relied on for much longer, the command is stopped.

Without one, the claim is printed, and lasts for --ttl. To renew it within that time, PUT
/v1/claims/CLAIM at the agent; DELETE releases it.

Exit code: the command's; 1 when nothing is free, 3 when there is no such service, 4 when
nothing became free in time, 5 when the claim was lost while the command ran.`,
		Example: `  disc claim gpu -- sh -c 'curl http://$DISC_ADDRESS/work'
  disc claim gpu --wait 30s --prefer-zone -- ./train
  disc claim gpu --ttl 5m -o json`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, args); err != nil {
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
	f.DurationVar(&o.Wait, "wait", 0, "wait at most this long for a free slot (default: do not wait)")
	f.DurationVar(&o.TTL, "ttl", api.DefaultTTL, "without a command: how long the claim lasts")
	f.BoolVar(&o.PreferZone, "prefer-zone", false, "instances of the agent's own zone first")
	f.DurationVar(&o.killTimeout, "kill-timeout", 0, "time between TERM and KILL (default the setting kill_timeout)")
	return c
}

func (o *claimOptions) check(cmd *cobra.Command, args []string) error {
	dash := cmd.ArgsLenAtDash()
	switch {
	case len(args) > 1 && dash != 1, dash == 1 && len(args) == 1:
		return errors.New("write 'disc claim SERVICE -- COMMAND...': one service before the dashes, and the command after them")
	case dash >= 0 && cmd.Flags().Changed("ttl"):
		return errors.New("--ttl is without a command; with one, the claim lasts for as long as that runs")
	case o.Wait < 0 || o.Wait > api.MaxWait:
		return fmt.Errorf("--wait is at most %v", api.MaxWait)
	case o.TTL < api.MinTTL || o.TTL > api.MaxTTL:
		return fmt.Errorf("--ttl is %v to %v", api.MinTTL, api.MaxTTL)
	case o.killTimeout < 0:
		return errors.New("--kill-timeout is at least 0")
	}
	return discovery.ValidateService(args[0])
}

// printClaim claims and shows what was claimed.
func (a *app) printClaim(ctx context.Context, service string, o claimOptions) error {
	client, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	claim, err := client.Claim(ctx, service, o.ClaimOptions)
	if err != nil {
		return o.late(err)
	}
	return show(a, listing[api.Claim]{items: []api.Claim{claim}, single: true, columns: []column[api.Claim]{
		{header: "CLAIM", value: func(c api.Claim) string { return c.Claim }},
		{header: "INSTANCE", value: func(c api.Claim) string { return c.Endpoint.ID }},
		{header: "ADDRESS", value: func(c api.Claim) string { return endpointAddress(c.Endpoint) }},
		{header: "SLOT", value: func(c api.Claim) string { return strconv.Itoa(c.Slot) }},
		{header: "FENCE", value: func(c api.Claim) string { return strconv.FormatInt(c.Fence, 10) }},
		{header: "TTL", value: func(c api.Claim) string { return c.TTL.String() }},
	},
		name: func(c api.Claim) string { return c.Claim },
		addr: func(c api.Claim) string { return endpointAddress(c.Endpoint) },
	})
}

// late tells that what was waited for did not come.
func (o *claimOptions) late(err error) error {
	if problem := (*api.Problem)(nil); o.Wait > 0 && errors.As(err, &problem) && errors.Is(err, discovery.ErrUnavailable) {
		return fmt.Errorf("%w after %v: %w", errTimedOut, o.Wait, err)
	}
	return err
}

// claim runs a command with an instance of its own.
func (a *app) claim(ctx context.Context, service string, command []string, o claimOptions) error {
	client, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	o.TTL = 0
	held, err := openGrant(ctx, func(ctx context.Context) (*api.HeldClaim, error) {
		return client.HoldClaim(ctx, service, o.ClaimOptions)
	})
	if err != nil {
		return o.late(err)
	}
	defer held.Close()
	defer a.release(ctx, "claim of "+held.Endpoint.ID, func(ctx context.Context) error { return client.ReleaseClaim(ctx, held.Claim.Claim) })
	env := append(os.Environ(), "DISC_CLAIM="+held.Claim.Claim, "DISC_FENCE="+strconv.FormatInt(held.Fence, 10),
		"DISC_SERVICE="+service, "DISC_INSTANCE="+held.Endpoint.ID, "DISC_ADDRESS="+endpointAddress(held.Endpoint))
	g := guardedCommand{
		awaitEnd: held.Wait, killTimeout: o.killTimeout, interactive: isTerminal(a.io.In),
		renew: func(ctx context.Context) (time.Duration, error) {
			c, err := client.RenewClaim(ctx, held.Claim.Claim)
			return time.Duration(c.ValidFor), err
		},
	}
	status, err := g.run(ctx, child.Command{Args: command, Env: env, Grace: o.killTimeout})
	if err != nil {
		return err
	}
	return exitWith(status.Code)
}
