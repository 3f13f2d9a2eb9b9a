package heartbeat

import "testing"

func TestHeartbeat(t *testing.T) {
	var h Heartbeat
	last, working := h.Beat()
	if working {
		t.Error("the zero value is at work")
	}
	for n, step := range []struct {
		call    func()
		working bool
	}{{h.Begin, true}, {h.Begin, true}, {h.End, false}, {h.Begin, true}, {h.End, false}} {
		step.call()
		beat, working := h.Beat()
		if working != step.working || beat == last {
			t.Errorf("step %d: beat %d after %d, working %v, want %v", n, beat, last, working, step.working)
		}
		last = beat
	}
	h.End()
	if beat, _ := h.Beat(); beat != last {
		t.Error("a second End changed the beat")
	}
}
