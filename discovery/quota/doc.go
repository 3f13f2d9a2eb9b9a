// Package quota keeps shared state from taking the space in etcd, and the writes, that
// registrations need.
//
// A [Space] refuses further writes while etcd is nearly full. A [Rate] bounds the writes a
// second of one agent. What writes keys, locks, claims or limits asks both, or one of them,
// before it writes. Registrations and renewals ask neither. Deletions are refused by a Rate
// only.
//
//	space := quota.NewSpace(client, 0)
//	if err := space.Check(ctx, len(key)+len(value)); err != nil {
//		return err // an ErrStorageFull
//	}
package quota
