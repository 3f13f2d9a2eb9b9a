package check

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"disc/discovery"
)

// State is the state of one check, as its agent knows it.
type State struct {
	ID          string              `json:"id"`
	Name        string              `json:"name,omitempty"`
	Type        discovery.CheckType `json:"type"`
	Status      discovery.Status    `json:"status,omitempty"` // "" until the thresholds are met for the first time
	Result      discovery.Status    `json:"result,omitempty"` // of the last run; Status follows by the thresholds
	Consecutive int                 `json:"consecutive"`      // results in a row that agree on whether it passes
	Output      string              `json:"output,omitempty"` // at most MaxOutput bytes of UTF-8
	LastRun     time.Time           `json:"last_run,omitzero"`
	Duration    discovery.Duration  `json:"duration,omitempty"` // of the last run
}

// check is one check of a set.
type check struct {
	spec   discovery.CheckSpec // with its address
	prober prober              // nil for ttl
	state  checkState
}

// checkState is the mutable state of a check. The set's mutex guards it.
type checkState struct {
	threshold    threshold
	result       result
	cause        string    // the begin of the output by which the status left passing or changed since; "": it passes
	lastRun      time.Time // when the last run began; of ttl, when the last report came
	duration     time.Duration
	loggedStatus discovery.Status
	logRate      rateLimiter
}

// logPeriod is the least time between two log lines of a flapping check.
const logPeriod = time.Minute

func newCheck(spec discovery.CheckSpec) *check {
	return &check{spec: spec, state: checkState{threshold: newThreshold(spec), logRate: rateLimiter{period: logPeriod}}}
}

// status returns the check's part of a report with the status s.
func (c *check) status(s discovery.Status, cause string) discovery.CheckStatus {
	return discovery.CheckStatus{ID: c.spec.ID, Name: c.spec.Name, Type: c.spec.Type, Status: s, Output: cause}
}

func (c *check) snapshot() State {
	return State{
		ID:          c.spec.ID,
		Name:        c.spec.Name,
		Type:        c.spec.Type,
		Status:      c.state.threshold.status,
		Result:      c.state.result.status,
		Consecutive: c.state.threshold.consecutive,
		Output:      c.state.result.output,
		LastRun:     c.state.lastRun,
		Duration:    discovery.Duration(c.state.duration),
	}
}

// repeat calls f after a delay, and then after each delay that f returns. It ends when f fails or
// ctx ends.
func repeat(ctx context.Context, delay time.Duration, f func() (next time.Duration, err error)) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next, err := f()
		if err != nil {
			return
		}
		timer.Reset(next)
	}
}

// runPeriodically runs a check at once and then every interval ±5 %, until ctx ends.
func (s *Set) runPeriodically(ctx context.Context, c *check) {
	interval := time.Duration(c.spec.Interval)
	repeat(ctx, s.initialDelay(c, interval), func() (time.Duration, error) {
		began, err := s.runOnce(ctx, c)
		return time.Until(began.Add(jitter(interval))), err
	})
}

// initialDelay returns the time until a check's first run. A check that was carried over from
// a previous set keeps its schedule.
func (s *Set) initialDelay(c *check, interval time.Duration) time.Duration {
	s.mu.Lock()
	carried := c.state.lastRun
	s.mu.Unlock()
	if carried.IsZero() {
		return s.scheduler.startDelay(interval)
	}
	return time.Until(carried.Add(jitter(interval)))
}

// runOnce waits for the scheduler, runs a check and records the result. It fails only with the
// error of ctx: an interrupted probe has no result.
func (s *Set) runOnce(ctx context.Context, c *check) (began time.Time, err error) {
	release, err := s.scheduler.acquire(ctx, c.spec.Type)
	if err != nil {
		return began, err
	}
	defer release()
	began = time.Now()
	limited, cancel := context.WithTimeout(ctx, time.Duration(c.spec.Timeout))
	defer cancel()
	r := c.prober.probe(limited)
	if err := ctx.Err(); err != nil {
		return began, err
	}
	took := time.Since(began)
	s.scheduler.metrics.duration.WithLabelValues(string(c.spec.Type)).Observe(took.Seconds())
	s.mu.Lock()
	defer s.mu.Unlock()
	c.state.lastRun, c.state.duration = began, took
	s.record(c, r)
	return began, nil
}

// runTTL makes a ttl check critical whenever no report has come for its TTL, until ctx ends.
func (s *Set) runTTL(ctx context.Context, c *check) {
	ttl, began := time.Duration(c.spec.TTL), time.Now()
	repeat(ctx, 0, func() (time.Duration, error) { return s.expireTTL(c, began, ttl), nil })
}

// expireTTL makes a ttl check critical if its TTL has passed since the last report, or since
// began if there was none. It returns the time until the next call is due.
func (s *Set) expireTTL(c *check, began time.Time, ttl time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := began
	if !c.state.lastRun.IsZero() {
		last = c.state.lastRun
	}
	if left := ttl - time.Since(last); left > 0 {
		return left
	}
	s.record(c, result{discovery.Critical, fmt.Sprintf("no report within %v", ttl)})
	return ttl
}

// recordReport records the report of a ttl check.
func (s *Set) recordReport(c *check, r result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.state.lastRun = time.Now()
	s.record(c, r)
}

// record records a result, derives the status and wakes notify. The caller holds the mutex.
func (s *Set) record(c *check, r result) {
	before, output := c.state.threshold.status, r.output
	r.output = sanitize(r.output)
	c.state.result = r
	c.state.threshold.observe(r.status)
	switch now := c.state.threshold.status; {
	case now == discovery.Passing:
		c.state.cause = ""
	case now != before:
		c.state.cause = discovery.CheckOutput(output)
	}
	s.scheduler.metrics.runs.WithLabelValues(string(c.spec.Type), string(r.status)).Inc()
	s.logChange(c)
	s.wake.Notify()
}

// logChange logs the status if it differs from the last one logged, at a limited rate. It runs
// at each result, so that the final status is always logged.
func (s *Set) logChange(c *check) {
	k, now := &c.state, time.Now()
	if k.threshold.status == k.loggedStatus || k.logRate.delay(now, 1) > 0 {
		return
	}
	k.logRate.spend(now)
	level := slog.LevelInfo
	if k.threshold.status != discovery.Passing {
		level = slog.LevelWarn
	}
	s.logger.Log(context.Background(), level, "check changed status", "check", c.spec.ID,
		"status", k.threshold.status, "was", k.loggedStatus, "output", firstLine(k.result.output))
	k.loggedStatus = k.threshold.status
}
