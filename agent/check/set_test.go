package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"disc/discovery"
)

// collect returns options that append each report of a set to a list, as one line.
func collect(lines *[]string) SetOptions {
	began := time.Now()
	return SetOptions{Changed: func(r Report) {
		line := fmt.Sprintf("%v [%s]", time.Since(began).Truncate(time.Second), r.Status)
		for _, c := range r.Checks {
			line += fmt.Sprintf(" %s=%s", c.ID, c.Status)
		}
		*lines = append(*lines, line)
	}}
}

// valueOf reads a counter or a gauge.
func valueOf(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		r := registration("a", "b", "c")
		r.Checks[1].FailureThreshold = 3
		set := newSet(t, newScheduler(t, Options{}), r, collect(&got),
			says(discovery.Passing),
			says(discovery.Critical, discovery.Critical, discovery.Warning, discovery.Passing),
			proberFunc(func(ctx context.Context) result { <-ctx.Done(); return result{discovery.Passing, "slow"} }))
		stop := start(t, set.Run)
		time.Sleep(time.Minute)
		stop()
		want := []string{
			"0s [] a=passing b= c=",
			"5s [] a=passing b= c=passing",
			"20s [warning] a=passing b=warning c=passing",
			"30s [passing] a=passing b=passing c=passing",
		}
		// The third round comes at 20 s, give or take the jitter.
		for n := range got {
			_, got[n], _ = strings.Cut(got[n], " ")
		}
		for n := range want {
			_, want[n], _ = strings.Cut(want[n], " ")
		}
		if !slices.Equal(got, want) {
			t.Errorf("reports:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A report has the output with which a failing check got its status. A new output makes no report.
func TestReportedOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		r := registration()
		r.Checks = []discovery.CheckSpec{{ID: "beat", Type: discovery.CheckTTL, TTL: discovery.Duration(time.Hour)}}
		set := newSet(t, newScheduler(t, Options{}), r, SetOptions{Changed: func(r Report) {
			got = append(got, fmt.Sprintf("%s %q", r.Status, r.Checks[0].Output))
		}})
		defer start(t, set.Run)()
		for _, said := range []result{
			{discovery.Passing, "fine"}, {discovery.Warning, "slow"}, {discovery.Warning, "slower"}, {discovery.Critical, "one\n\x1b[31mtwo"},
			{discovery.Critical, "three"}, {discovery.Passing, "fine"}, {discovery.Critical, strings.Repeat("x", 300)},
		} {
			if err := set.Report("beat", said.status, said.output); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		want := []string{`passing ""`, `warning "slow"`, `critical "one [31mtwo"`, `passing ""`, fmt.Sprintf("critical %q", strings.Repeat("x", 256))}
		if !slices.Equal(got, want) {
			t.Errorf("reports: %q, want %q", got, want)
		}
	})
}

func TestOneCriticalCheckDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		set := newSet(t, newScheduler(t, Options{}), registration("bad", "slow"), collect(&got), says(discovery.Critical), proberFunc(hangs))
		stop := start(t, set.Run)
		synctest.Wait()
		stop()
		if want := []string{"0s [critical] bad=critical slow="}; !slices.Equal(got, want) {
			t.Errorf("reports: %q, want %q", got, want)
		}
	})
}

func TestNoChecksPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		stop := start(t, newSet(t, newScheduler(t, Options{}), registration(), collect(&got)).Run)
		synctest.Wait()
		stop()
		if want := []string{"0s [passing]"}; !slices.Equal(got, want) {
			t.Errorf("reports: %q, want %q", got, want)
		}
	})
}

func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		r := registration()
		r.Checks = []discovery.CheckSpec{{ID: "beat", Type: discovery.CheckTTL, TTL: discovery.Duration(10 * time.Second)}}
		set := newSet(t, newScheduler(t, Options{}), r, collect(&got))
		defer start(t, set.Run)()
		beat := func(s discovery.Status, wait time.Duration) {
			t.Helper()
			if err := set.Report("beat", s, "said "+string(s)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			time.Sleep(wait)
		}
		time.Sleep(12 * time.Second)
		beat(discovery.Passing, 9*time.Second)
		beat(discovery.Warning, 9*time.Second)
		beat(discovery.Passing, 9*time.Second)
		if o := set.Checks()[0].Output; o != "said passing" {
			t.Errorf("output %q", o)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want := []string{"10s [critical] beat=critical", "12s [passing] beat=passing", "21s [warning] beat=warning", "30s [passing] beat=passing", "40s [critical] beat=critical"}
		if !slices.Equal(got, want) {
			t.Errorf("reports: %q, want %q", got, want)
		}
		if o := set.Checks()[0].Output; o != "no report within 10s" {
			t.Errorf("output %q", o)
		}
	})
}

func TestReportIsRefused(t *testing.T) {
	r := registration("tcp")
	r.Checks = append(r.Checks, discovery.CheckSpec{ID: "beat", Type: discovery.CheckTTL, TTL: discovery.Duration(time.Second)})
	set := newSet(t, newScheduler(t, Options{}), r, SetOptions{})
	for _, test := range []struct {
		id     string
		status discovery.Status
		want   error
	}{
		{"beat", discovery.Passing, nil},
		{"beat", "fine", discovery.ErrInvalid},
		{"tcp", discovery.Passing, discovery.ErrInvalid},
		{"none", discovery.Passing, discovery.ErrNotFound},
	} {
		t.Run(test.id+" "+string(test.status), func(t *testing.T) {
			if err := set.Report(test.id, test.status, ""); !errors.Is(err, test.want) {
				t.Errorf("report %s of %s: got %v, want %v", test.status, test.id, err, test.want)
			}
		})
	}
}

func TestPreviousIsCarriedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scheduler := newScheduler(t, Options{})
		old := newSet(t, scheduler, registration("same", "changed", "gone"), SetOptions{}, says(discovery.Passing), says(discovery.Passing), says(discovery.Critical))
		stop := start(t, old.Run)
		time.Sleep(25 * time.Second)
		stop()

		r := registration("new", "changed", "same")
		r.Checks[1].Address = "127.0.0.1:81"
		var got []string
		options := collect(&got)
		options.Previous = old
		set := newSet(t, scheduler, r, options, proberFunc(hangs), proberFunc(hangs), says(discovery.Passing))
		states := set.Checks()
		if s := states[2]; s.Status != discovery.Passing || s.Consecutive != 3 || s.Output != "says passing" {
			t.Errorf("the same check has lost its state: %+v", s)
		}
		for _, s := range states[:2] {
			if s.Status != "" || s.Consecutive != 0 {
				t.Errorf("another check has a past: %+v", s)
			}
		}
		defer start(t, set.Run)()
		synctest.Wait()
		if s := set.Checks()[2]; s.Consecutive != 3 {
			t.Error("the same check did not keep its schedule")
		}
		time.Sleep(7 * time.Second)
		if s := set.Checks()[2]; s.Consecutive != 4 {
			t.Errorf("the same check has %d results, want a fourth", s.Consecutive)
		}
	})
}

func TestStopCutsAProbeShortWithoutAResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := newSet(t, newScheduler(t, Options{}), registration("a"), SetOptions{}, proberFunc(hangs))
		stop := start(t, set.Run)
		synctest.Wait()
		stop()
		if s := set.Checks()[0]; s.Status != "" || s.Result != "" {
			t.Errorf("got %+v", s)
		}
	})
}

func TestFlappingDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := registration("flap")
		r.Checks[0].Interval, r.Checks[0].Timeout = discovery.Duration(time.Second), discovery.Duration(time.Second)
		n := 0
		flap := proberFunc(func(context.Context) result {
			if n++; n > 595 || n%2 == 0 {
				return result{discovery.Critical, "down\nsecond line"}
			}
			return result{discovery.Passing, "up"}
		})
		registry := prometheus.NewRegistry()
		scheduler := newScheduler(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: registry})
		stop := start(t, newSet(t, scheduler, r, SetOptions{}, flap).Run)
		time.Sleep(800 * time.Second)
		stop()
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) < 8 || len(lines) > 15 {
			t.Errorf("%d lines for ten minutes of flapping", len(lines))
		}
		if last := lines[len(lines)-1]; !containsAll(last, "level=WARN", "service=web", "instance=web-1", "check=flap", "status=critical", "output=down") || strings.Contains(last, "second") {
			t.Errorf("the last line is %s", last)
		}
		runs := valueOf(t, scheduler.metrics.runs.WithLabelValues("tcp", "passing"))
		if runs != 298 {
			t.Errorf("%v passing runs were counted, want 298", runs)
		}
	})
}

func TestNewSetRefuses(t *testing.T) {
	check := func(c discovery.CheckSpec) discovery.Registration {
		return discovery.Registration{Service: "web", ID: "web-1", Port: 80, Checks: []discovery.CheckSpec{c}}.WithDefaults("10.0.0.5", "")
	}
	for _, test := range []struct {
		spec       discovery.CheckSpec
		restricted bool
		want       error
	}{
		{discovery.CheckSpec{Type: discovery.CheckTCP, Address: "nowhere"}, false, discovery.ErrInvalid},
		{discovery.CheckSpec{Type: discovery.CheckHTTP, URL: "http://a/", Method: "G T"}, false, discovery.ErrInvalid},
		{discovery.CheckSpec{Type: discovery.CheckHTTP, URL: "http://a/", Headers: map[string]string{"a b": "c"}}, false, discovery.ErrInvalid},
		{discovery.CheckSpec{Type: discovery.CheckHTTP, URL: "http://a/", Headers: map[string]string{"a": "b\nc"}}, false, discovery.ErrInvalid},
		{discovery.CheckSpec{Type: "ping"}, false, discovery.ErrInvalid},
		{discovery.CheckSpec{Type: discovery.CheckExec, Command: []string{"true"}}, true, discovery.ErrForbidden},
		{discovery.CheckSpec{Type: discovery.CheckHTTP, URL: "http://192.0.2.6/"}, true, discovery.ErrForbidden},
		{discovery.CheckSpec{Type: discovery.CheckHTTP, URL: "http://127.0.0.5/"}, true, nil},
		{discovery.CheckSpec{Type: discovery.CheckHTTP, URL: "http://192.0.2.6/", Method: "PUT", Headers: map[string]string{"Host": "a"}}, false, nil},
	} {
		t.Run(fmt.Sprintf("%s %s%s restricted=%v", test.spec.Type, test.spec.URL, test.spec.Address, test.restricted), func(t *testing.T) {
			_, err := newScheduler(t, Options{}).NewSet(check(test.spec), SetOptions{Restricted: test.restricted})
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("%+v: got %v, want %v", test.spec, err, test.want)
			}
		})
	}
}
