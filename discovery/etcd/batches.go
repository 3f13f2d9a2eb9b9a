package etcd

import (
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// InBatches calls commit for all items, for up to most of them at once. It halves a batch that has
// more operations than etcd takes in a transaction. It ends with the first other error.
func InBatches[T any](items []T, most int, commit func(batch []T) error) error {
	for len(items) > 0 {
		batch := items[:min(most, len(items))]
		err := commit(batch)
		switch {
		case errors.Is(err, rpctypes.ErrTooManyOps) && len(batch) > 1:
			most = len(batch) / 2
		case err != nil:
			return err
		default:
			items = items[len(batch):]
		}
	}
	return nil
}
