package lock

import (
	"context"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/life"
)

// An attempt that the end of the caller's time cuts off does not hide why nothing was granted.
func TestReasonOutlastsTheLastAttempt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := waiter{Grant: &Grant{name: "job", lost: make(chan struct{})}}
	attempts := 0
	_, err := w.callUntilAnswered(ctx, func() (*clientv3.TxnResponse, error) {
		if attempts++; attempts == 1 {
			return nil, life.ErrContactBroken
		}
		cancel()
		return nil, ctx.Err()
	})
	if !life.Uncertain(err) || attempts != 2 {
		t.Errorf("after %d attempts: %v", attempts, err)
	}
}
