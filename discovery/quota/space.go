package quota

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

const (
	// threshold is the part of etcd's quota from which on writes are refused.
	threshold = 0.8
	// askInterval is the time after which etcd is asked again for its size, and
	// askIntervalFull that time while writes are refused.
	askInterval     = 30 * time.Second
	askIntervalFull = 5 * time.Second
	// askTimeout bounds the time that a write waits for etcd's size.
	askTimeout = 2 * time.Second
	// askParts is the part of the quota, one in so many, that may be written before etcd is
	// asked again: 50 agents that fill etcd together stay below the quota.
	askParts = 256
	// writeOverhead is about what etcd adds to the bytes of a write: its entry in the index
	// and the page that it lies in.
	writeOverhead = 1 << 10
)

// Space says whether etcd has space for shared state. A nil Space always has. It is safe for
// concurrent use.
type Space struct {
	client  *clientv3.Client
	assumed discovery.Bytes // etcd's quota, if etcd does not say it; 0: it is not known

	asking sync.Mutex // held while etcd is asked
	mu     sync.Mutex
	asked  time.Time       // when etcd was last asked; zero: never
	quota  discovery.Bytes // as far as it was known then; 0: none
	since  discovery.Bytes // checked since then
	full   error           // nil: there is space
}

// NewSpace returns the space of the etcd of a client. assumed is the quota of an etcd that
// does not say its quota, which is one before 3.6; with 0, only the NOSPACE alarm of such an
// etcd is seen.
func NewSpace(client *clientv3.Client, assumed discovery.Bytes) *Space {
	return &Space{client: client, assumed: assumed}
}

// Check returns an [discovery.ErrStorageFull], which says what to do, while etcd uses 80 % of
// its quota or more, or has raised the alarm NOSPACE. Otherwise, and if etcd does not say its
// size, it returns nil. size is the number of bytes that the caller is about to write.
//
// Check asks etcd's member at the other end of the connection, which knows the answer. It
// does so at the first call, and then at most every 30 s, every 5 s while it refuses, or
// after every 256th part of the quota that was checked. In between it returns at once.
func (s *Space) Check(ctx context.Context, size int) error {
	if s == nil {
		return nil
	}
	due, known, full := s.add(discovery.Bytes(size + writeOverhead))
	if !due {
		return full
	}
	if !known {
		s.asking.Lock()
	} else if !s.asking.TryLock() {
		return full // somebody else asks
	}
	defer s.asking.Unlock()
	if due, _, full = s.add(0); !due { // somebody else has asked
		return full
	}
	return s.ask(ctx)
}

// add counts what is about to be written. It reports whether etcd is to be asked, whether it
// was asked ever, and the last answer.
func (s *Space) add(size discovery.Bytes) (due, known bool, full error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since += size
	interval := askInterval
	if s.full != nil {
		interval = askIntervalFull
	}
	due = time.Since(s.asked) >= interval || s.full == nil && s.quota > 0 && s.since > s.quota/askParts
	return due, !s.asked.IsZero(), s.full
}

// ask asks etcd for its size and returns the verdict. It goes on when the caller is gone: who
// hangs up must not hide the answer from the others.
func (s *Space) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	status, err := clientv3.RetryMaintenanceClient(s.client, s.client.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		status = nil
	}
	return s.note(status)
}

// note notes what etcd has answered and returns the verdict. Without an answer, nil, the last
// verdict stays: if etcd is away, the write itself says so.
func (s *Space) note(status *pb.StatusResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.since = time.Now(), 0
	if status == nil {
		return s.full
	}
	s.quota = cmp.Or(discovery.Bytes(status.DbSizeQuota), s.assumed)
	s.full = verdict(status, s.quota)
	return s.full
}

// verdict returns the reason to refuse writes, or nil. A quota of 0 is not known, and etcd
// has none if it is negative.
func verdict(status *pb.StatusResponse, quota discovery.Bytes) error {
	for _, text := range status.Errors {
		if strings.Contains(text, pb.AlarmType_NOSPACE.String()) {
			return discovery.Errorf(discovery.ErrStorageFull,
				"etcd has raised its alarm NOSPACE: delete what is not needed, compact and defragment etcd, and disarm the alarm (etcdctl alarm disarm)")
		}
	}
	// The size is that of the file, of which deleted keys and old revisions are a part: etcd
	// compares it with the quota, too.
	size := discovery.Bytes(status.DbSize)
	if quota <= 0 || float64(size) < threshold*float64(quota) {
		return nil
	}
	return discovery.Errorf(discovery.ErrStorageFull,
		"etcd has %v of its quota of %v, %v of that in use; from %.0f %% on only registrations and deletions are written: delete what is not needed, compact and defragment etcd, or raise its --quota-backend-bytes",
		size, quota, discovery.Bytes(status.DbSizeInUse), threshold*100)
}
