// Package heartbeat shows a watchdog whether a loop is stuck.
package heartbeat

import "sync/atomic"

// Heartbeat shows a watchdog whether a loop is stuck. The loop calls Begin when it starts a
// unit of work, which takes a bounded time, and End when it waits for the next. A Heartbeat
// counts units and measures no time: a host that was suspended, or a process that was
// stopped, is not stuck. The zero value is a loop that waits.
type Heartbeat struct{ beats atomic.Uint64 } // odd: at work

// Begin starts a unit of work, and ends the previous one if that is still going on. Only
// the loop itself may call it.
func (h *Heartbeat) Begin() { h.beats.Store((h.beats.Load() + 1) | 1) }

// End ends the work: the loop now waits, for any length of time. Only the loop itself may
// call it.
func (h *Heartbeat) End() { h.beats.Store((h.beats.Load() + 1) &^ 1) }

// Beat returns a number that changes with each Begin and End, and whether the loop is at
// work. A loop is stuck when it is at work and the number does not change for longer than
// a unit of work may take.
func (h *Heartbeat) Beat() (beat uint64, working bool) {
	beat = h.beats.Load()
	return beat, beat&1 == 1
}
