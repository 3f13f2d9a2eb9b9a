package check

import (
	"context"
	"slices"
	"sync"
	"time"

	"disc/discovery"
	"disc/discovery/retry"
)

// DampPeriod is the least time between two writes of a flapping instance.
const DampPeriod = 10 * time.Second

// Damper limits the rate of an instance's reports: a burst of two, then one in each
// [DampPeriod]. Between them it keeps only the newest report, and drops that, too, if it
// equals the last one passed on. It never passes on a report without a status.
type Damper struct {
	write  func(Report)
	wake   retry.Signal
	mu     sync.Mutex
	newest Report
}

// NewDamper returns a damper that passes reports to write. Run calls write, one call at a
// time.
func NewDamper(write func(Report)) *Damper {
	return &Damper{write: write, wake: retry.NewSignal()}
}

// Offer gives the damper the newest report. It never blocks.
func (d *Damper) Offer(r Report) {
	if r.Status == "" {
		return
	}
	d.mu.Lock()
	d.newest = r
	d.mu.Unlock()
	d.wake.Notify()
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
	limiter := rateLimiter{period: DampPeriod}
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
		if wait := limiter.delay(now, requiredCredit(last, next)); wait > 0 {
			timer.Reset(wait)
			continue
		}
		limiter.spend(now)
		last = next
		d.write(next)
	}
}

// requiredCredit returns how many events the limiter must have left for the next report. A
// report that does not change the status needs two, so that it never uses up the one that a
// change of the status may need a moment later.
func requiredCredit(last, next Report) int {
	if last.Status == next.Status {
		return 2
	}
	return 1
}

// Report is the combined result of an instance's checks.
type Report struct {
	// Status is the worst of the checks' statuses; "" while a check has no status yet and
	// none is critical.
	Status discovery.Status
	// Checks are in the order of the registration. A check without a result has the
	// status "". The output is that with which a failing check got its status.
	Checks []discovery.CheckStatus
}

// equal reports whether two reports say the same but for the outputs, which alone are no reason to
// write.
func (r Report) equal(other Report) bool {
	return r.Status == other.Status && slices.EqualFunc(r.Checks, other.Checks, func(a, b discovery.CheckStatus) bool {
		a.Output = b.Output
		return a == b
	})
}
