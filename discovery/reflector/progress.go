package reflector

import (
	"context"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// progressRetry is the time after which a request for progress is repeated. etcd ignores one
// while a watch has events to send.
const progressRetry = 25 * time.Millisecond

// streamProgress is what a stream's answers to progress requests show: the revision that all its
// watches have reached.
type streamProgress struct {
	asked    []time.Time // of the requests that may still be answered, oldest first
	order    progressOrder
	revision int64 // of the newest answer, if order is ordered
	applied  int64 // the newest revision that the store was given
}

// progressOrder is whether etcd sends its answer to a progress request behind the events up to
// the answer's revision. It does from 3.4.25 and 3.5.8 on (etcd-io/etcd#15220).
type progressOrder int

const (
	orderUnknown progressOrder = iota
	ordered
	unordered
)

// RequestProgress asks etcd for the revision that all watches have reached. The store gets it
// soon, as [Update.Progress], unless etcd is too old to tell, or a watch has events to send:
// ask again then. It does not block. Requests that come while one is on its way are dropped.
func (r *Reflector) RequestProgress() { r.progressWanted.Notify() }

// demandProgress handles a call of RequestProgress. The first one on a stream calls checkOrder.
func (r *Reflector) demandProgress(checkOrder func()) {
	switch {
	case r.proxied(): // there is none, as with an old etcd
	case r.progress.order == orderUnknown:
		checkOrder()
	case r.progress.order == ordered && !r.progress.isAnswerDue():
		r.askProgress()
	}
}

// isAnswerDue reports whether the answer to a request may be on its way.
func (p *streamProgress) isAnswerDue() bool {
	return len(p.asked) > 0 && time.Since(p.asked[len(p.asked)-1]) < progressRetry
}

// checkOrder reads the version of the watched member and, if that orders its answers, asks
// for progress. A member that does not tell its version counts as an old one.
func (r *Reflector) checkOrder(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	order := unordered
	if status, err := pb.NewMaintenanceClient(r.conn).Status(limited, &pb.StatusRequest{}); err == nil && ordersProgress(status.Version) {
		order = ordered
	}
	_ = r.Do(ctx, func() { // it fails at the end of the stream
		if r.progress.order = order; order == ordered {
			r.askProgress()
		}
	})
}

// ordersProgress reports whether a version of etcd orders its answers to progress requests.
func ordersProgress(version string) bool {
	var v [3]int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
		return false
	}
	least := []int{3, 4, 25}
	if v[0] == 3 && v[1] == 5 {
		least = []int{3, 5, 8}
	}
	return slices.Compare(v[:], least) >= 0
}

// askProgress sends a request for progress, unless a proxy would ignore it.
func (r *Reflector) askProgress() {
	if r.proxied() {
		return
	}
	r.progress.prune()
	r.progress.asked = append(r.progress.asked, time.Now())
	r.stream.AskProgress()
}

// prune drops the requests that are not answered any more. etcd ignores some; one without an
// answer for WatchTimeout is one of those.
func (p *streamProgress) prune() {
	for len(p.asked) > 0 && time.Since(p.asked[0]) > WatchTimeout {
		p.asked = p.asked[1:]
	}
}

// progressed handles an answer: all watches that etcd had when it answered have reached a
// revision.
func (r *Reflector) progressed(revision int64) {
	if len(r.progress.asked) > 0 {
		r.progress.asked = r.progress.asked[1:]
	}
	for _, w := range r.ranges {
		w.progressed(revision)
	}
	if r.progress.order == ordered {
		r.progress.revision = max(r.progress.revision, revision)
	}
	r.replaceNested(revision)
}

// progressed handles an answer. It may be older than the watch, although it arrives after the
// watch's first response: etcd sends the two through different queues. It is newer if its
// revision is, or if all answers that may be older have come.
func (w *watchedRange) progressed(revision int64) {
	switch {
	case w.createdAt > 0 && (revision > w.createdAt || w.olderAnswers == 0):
		w.progress, w.olderAnswers = max(w.progress, revision), 0
	case w.olderAnswers > 0:
		w.olderAnswers--
	}
}

// reached returns the revision up to which a watch has delivered all writes.
func (w *watchedRange) reached() int64 { return max(w.revision, w.progress) }

// behind returns the watched ranges that have not reached a revision.
func (r *Reflector) behind(revision int64) []Range {
	var behind []Range
	for _, w := range r.ranges {
		if w.reached() < revision {
			behind = append(behind, w.Range)
		}
	}
	return behind
}

// takeProgress returns progress that the store was not given yet, and the ranges that have not
// reached it; 0: there is none.
func (r *Reflector) takeProgress() (revision int64, behind []Range) {
	if r.progress.revision <= r.progress.applied {
		return 0, nil
	}
	r.progress.applied = r.progress.revision
	return r.progress.revision, r.behind(r.progress.revision)
}
