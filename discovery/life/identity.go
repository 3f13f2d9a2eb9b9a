package life

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Header identifies the etcd that answered a request, and its revision at that time.
type Header struct {
	Cluster  uint64
	Term     uint64
	Revision int64
}

// HeaderOf returns the header of an answer of etcd.
func HeaderOf(h *pb.ResponseHeader) Header {
	return Header{h.GetClusterId(), h.GetRaftTerm(), h.GetRevision()}
}

// Identity distinguishes an etcd from another one at the same address, after a wipe, a restore
// from a backup, or a replacement.
type Identity struct {
	Header
	Epoch string // the value of the epoch key
}

// StartedOver returns why what was read under an earlier identity is invalid under this one;
// empty: it is still valid. The cluster and the term of an identity that was saved by an earlier
// process are unknown, that is 0.
func (id Identity) StartedOver(before Identity) string {
	switch {
	case id.Epoch != before.Epoch && before.Epoch != "":
		return "the epoch has changed"
	case id.Cluster != before.Cluster && before.Cluster != 0:
		return "the cluster id has changed"
	case id.Revision < before.Revision:
		return "the revision went back"
	case id.Term < before.Term:
		return "the term went back"
	}
	return ""
}

// atLeast returns the identity with what an earlier answer of the same life has shown besides.
func (id Identity) atLeast(earlier Identity) Identity {
	id.Revision, id.Term = max(id.Revision, earlier.Revision), max(id.Term, earlier.Term)
	return id
}
