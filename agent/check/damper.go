package check

import (
	"context"
	"slices"
	"sync"
	"time"

	"disc/discovery"
)

// DampPeriod is the time in which a flapping instance is written once.
const DampPeriod = 10 * time.Second

// Damper passes on the reports of one instance at a bounded rate: two changes at
// once, then one in each [DampPeriod]. What comes meanwhile is coalesced: the newest
// report is passed on in the end, and nothing is when the instance is back where it
// was. A report without a status says nothing yet and is never passed on.
type Damper struct {
	write  func(Report)
	wake   chan struct{}
	mu     sync.Mutex
	newest Report
}

// NewDamper returns a damper that passes reports to write, which is called from Run,
// one call at a time.
func NewDamper(write func(Report)) *Damper {
	return &Damper{write: write, wake: make(chan struct{}, 1)}
}

// Offer takes the newest report. It never blocks.
func (d *Damper) Offer(r Report) {
	if r.Status == "" {
		return
	}
	d.mu.Lock()
	d.newest = r
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *Damper) latest() Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.newest
}

// Run passes reports on until ctx ends.
func (d *Damper) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	rate := rateLimiter{period: DampPeriod}
	var last Report
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer.C:
		}
		next, now := d.latest(), time.Now()
		if next.equal(last) {
			continue
		}
		if wait := rate.delay(now, requiredCredit(last, next)); wait > 0 {
			timer.Reset(wait)
			continue
		}
		rate.spend(now)
		last = next
		d.write(next)
	}
}

// requiredCredit is how many changes must be free for the next report to go out. A change of
// the status goes first: one of a single check that leaves it as it was may not use
// up what the status could need a moment later.
func requiredCredit(last, next Report) int {
	if last.Status == next.Status {
		return 2
	}
	return 1
}

// Report is what the checks of an instance say together.
type Report struct {
	// Status is the worst of the checks, or "" while it is not known: as long as a
	// check has not spoken and none is critical.
	Status discovery.Status
	// Checks are in the order of the registration; a check that has not spoken has
	// the status "".
	Checks []discovery.CheckStatus
}

func (r Report) equal(other Report) bool {
	return r.Status == other.Status && slices.Equal(r.Checks, other.Checks)
}
