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

func (a *app) lockListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [NAME]",
		Short: "List who holds the locks and who waits for them",
		Long: `List who holds the locks of the namespace and who waits for them, as stored in etcd, in
the order of their requests. With NAME, only those of one lock; exit code 3 if nobody
holds it.

HOLDER is the beginning of the holder's id, which names it to 'disc lock break'.`,
		Example: `  disc lock list
  disc lock list nightly-report -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() >= 0 {
				return usage(errors.New("to take a lock named list, write 'disc lock -- list -- COMMAND...'"))
			}
			if len(args) == 1 {
				if err := discovery.ValidateLock(args[0]); err != nil {
					return usage(err)
				}
			}
			return a.withAgent(cmd.Context(), func(ctx context.Context, client *api.Client) error {
				return a.listLocks(ctx, client, args)
			})
		},
	}
}

func (a *app) listLocks(ctx context.Context, client *api.Client, names []string) error {
	var list api.LockList
	var err error
	if len(names) == 0 {
		list, err = client.Locks(ctx)
	} else {
		list.Locks = make([]api.LockQueue, 1)
		list.Locks[0], err = client.LockQueue(ctx, names[0])
		list.Truncated = list.Locks[0].Truncated
	}
	if err != nil {
		return err
	}
	if list.Truncated {
		a.infof("there are too many; some are left out")
	}
	if len(list.Locks) == 0 {
		a.infof("nobody holds a lock")
	}
	return show(a, lockListing(list.Locks))
}

// lockCaller is a holder of a lock, or a caller that waits for it.
type lockCaller struct {
	Lock  string `json:"lock"`
	State string `json:"state"` // holds, broken or waits
	api.LockCaller
}

func lockListing(queues []api.LockQueue) listing[lockCaller] {
	l := listing[lockCaller]{
		name: func(c lockCaller) string { return c.Lock + "/" + c.Holder },
		columns: []column[lockCaller]{
			{header: "LOCK", value: func(c lockCaller) string { return c.Lock }},
			{header: "STATE", value: func(c lockCaller) string { return c.State }},
			{header: "NODE", value: func(c lockCaller) string { return c.Node }},
			{header: "HOLDER", value: func(c lockCaller) string { return c.Holder }},
			{header: "FENCE", value: func(c lockCaller) string { return strconv.FormatInt(c.Fence, 10) }},
			{header: "ASKED", value: func(c lockCaller) string { return ago(c.Asked) }},
			{header: "BROKEN BY", wide: true, value: func(c lockCaller) string {
				if c.Broken == nil {
					return ""
				}
				return c.Broken.By
			}},
		},
	}
	for _, q := range queues {
		for _, c := range q.Holders {
			state := "holds"
			if c.Broken != nil {
				state = "broken"
			}
			l.items = append(l.items, lockCaller{q.Name, state, c})
		}
		for _, c := range q.Waiters {
			l.items = append(l.items, lockCaller{q.Name, "waits", c})
		}
	}
	return l
}

// ago returns the time since t by this host's clock, such as "5m ago"; "": t is unknown.
func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s ago", shortDuration(time.Since(t)))
}
