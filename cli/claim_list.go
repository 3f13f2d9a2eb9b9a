package cli

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"disc/agent/api"
)

func (a *app) claimListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [SERVICE]",
		Short: "List who holds which claims",
		Long: `List the claimed slots of a service, or of all services of the namespace, as stored in
etcd, and who holds them. HOLDER is the beginning of the claim's id.`,
		Example: `  disc claim list
  disc claim list gpu -o json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() >= 0 {
				return usage(errors.New("to claim of a service named list, write 'disc claim -- list [-- COMMAND...]'"))
			}
			service, err := optionalService(args)
			if err != nil {
				return err
			}
			return a.withAgent(cmd.Context(), func(ctx context.Context, client *api.Client) error {
				list, err := client.Claims(ctx, service)
				if err != nil {
					return err
				}
				if list.Truncated {
					a.infof("there are too many; some are left out")
				}
				if len(list.Claims) == 0 {
					a.infof("nobody holds a claim")
				}
				return show(a, claimListing(list.Claims))
			})
		},
	}
}

func claimListing(claims []api.HeldSlot) listing[api.HeldSlot] {
	return listing[api.HeldSlot]{
		items: claims,
		name:  func(h api.HeldSlot) string { return h.Service + "/" + h.Instance + "/" + strconv.Itoa(h.Slot) },
		columns: []column[api.HeldSlot]{
			{header: "SERVICE", value: func(h api.HeldSlot) string { return h.Service }},
			{header: "INSTANCE", value: func(h api.HeldSlot) string { return h.Instance }},
			{header: "SLOT", value: func(h api.HeldSlot) string { return strconv.Itoa(h.Slot) }},
			{header: "NODE", value: func(h api.HeldSlot) string { return h.Node }},
			{header: "HOLDER", value: func(h api.HeldSlot) string { return h.Holder }},
			{header: "FENCE", value: func(h api.HeldSlot) string { return strconv.FormatInt(h.Fence, 10) }},
			{header: "ASKED", value: func(h api.HeldSlot) string { return ago(h.Asked) }},
		},
	}
}
