package reflector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"disc/discovery/life"
)

// identityTimeout bounds reading or writing etcd's identity. It is short: when one member
// hangs, another may answer.
const identityTimeout = 3 * time.Second

// verify returns an error unless an answer comes from the etcd with an identity.
func verify(at life.Header, id life.Identity) error {
	if at.Cluster != id.Cluster || at.Revision < id.Revision {
		return errors.New("etcd was replaced while it was listed")
	}
	return nil
}

// ensureEpoch returns etcd's identity. With Options.Life it begins a new life where there is no
// epoch, or where etcd started over.
func (r *Reflector) ensureEpoch(ctx context.Context) (life.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	if r.options.Life == nil {
		return r.readIdentity(ctx)
	}
	return r.options.Life.Check(ctx, r.kv, r.identity)
}

// readIdentity returns etcd's identity.
func (r *Reflector) readIdentity(ctx context.Context) (life.Identity, error) {
	got, err := r.kv.Get(ctx, r.options.Epoch)
	if err != nil {
		return life.Identity{}, fmt.Errorf("read epoch: %w", err)
	}
	now := life.Identity{Header: life.HeaderOf(got.Header)}
	for _, kv := range got.Kvs {
		now.Epoch = string(kv.Value)
	}
	return now, nil
}
