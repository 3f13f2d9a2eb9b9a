package heartbeat

import "sync/atomic"

// Heartbeat shows whether a loop goes round, to a watchdog that looks now and then. The
// loop says when it takes up a piece of work, each of which has a bound in time, and
// when it waits for the next. It counts pieces and measures no time: a host that was
// suspended, or a process that was stopped, has not been stuck. The zero value rests.
type Heartbeat struct{ beats atomic.Uint64 } // odd: at work

// Begin begins a piece of work; the one before it, if there was one, is done. Only the
// loop itself calls it.
func (h *Heartbeat) Begin() { h.beats.Store((h.beats.Load() + 1) | 1) }

// End ends the work: the loop waits, for as long as it takes. Only the loop itself
// calls it.
func (h *Heartbeat) End() { h.beats.Store((h.beats.Load() + 1) &^ 1) }

// Beat returns a number that is another for each piece of work, and whether one is
// being done.
func (h *Heartbeat) Beat() (beat uint64, working bool) {
	beat = h.beats.Load()
	return beat, beat&1 == 1
}
