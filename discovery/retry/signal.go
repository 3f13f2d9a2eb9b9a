package retry

// Signal wakes one waiting goroutine: a channel that holds at most one pending wake-up, so
// that notifications sent before the receiver looks again coalesce into one. The receiver
// reads from the channel, then looks at everything that may have changed.
type Signal chan struct{}

// NewSignal returns a signal without a pending wake-up.
func NewSignal() Signal { return make(Signal, 1) }

// Notify leaves a wake-up unless one is pending. It never blocks.
func (s Signal) Notify() {
	select {
	case s <- struct{}{}:
	default:
	}
}
