package retry

import "testing"

func TestSignalCoalesces(t *testing.T) {
	s := NewSignal()
	for range 3 {
		s.Notify()
	}
	<-s
	select {
	case <-s:
		t.Error("three notifications left more than one wake-up")
	default:
	}
	s.Notify()
	<-s
}
