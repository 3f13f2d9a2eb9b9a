package e2e_test

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// TestFaultClockJump moves the wall clock of one agent an hour forward and that of another an
// hour back. Nothing expires, since no duration is measured with the wall clock.
func TestFaultClockJump(t *testing.T) {
	t.Parallel()
	etcdtest.SkipUnlessLong(t, "builds the program and the standard library with another clock")
	program := buildJumping(t)
	etcd := startMember(t)
	forth, back := startJumping(t, program, "forth", etcd.endpoint), startJumping(t, program, "back", etcd.endpoint)
	for id, s := range map[string]*jumping{"web-1": forth, "web-2": back} {
		s.register(t, "web", id, discovery.CheckSpec{Type: discovery.CheckTTL, TTL: discovery.Duration(30 * time.Minute)})
		if err := s.ReportCheck(t.Context(), "web", id, "ttl", api.CheckReport{Status: discovery.Passing}); err != nil {
			t.Fatal(err)
		}
	}
	forth.find(t, "web", "web-1", "web-2")
	back.find(t, "web", "web-1", "web-2")
	watch := back.follow(t, "web")
	leases := [2]string{forth.lease(t), back.lease(t)}
	stops := []func(){forth.steady(t, "web", "web-1", "web-2"), back.steady(t, "web", "web-1", "web-2")}

	forth.jump(t, time.Hour)
	back.jump(t, -time.Hour)
	pause(ttl + 2*time.Second)

	for _, stop := range stops {
		stop()
	}
	if now := [2]string{forth.lease(t), back.lease(t)}; now != leases {
		t.Errorf("the leases were %s and are %s", leases, now)
	}
	if strings.Contains(watch.output.String(), `"event":"delete"`) {
		t.Errorf("the watch:\n%s", watch.output.String())
	}
	forth.checkAges(t)
	back.checkAges(t)

	// The files on disk are from the future when the agent starts with an earlier clock.
	etcd.signal(syscall.SIGKILL)
	back.signal(syscall.SIGKILL)
	<-back.ended
	back.jump(t, -2*time.Hour)
	back.start(t)
	if err := back.answers(t.Context(), "web", "web-1", "web-2"); err != nil {
		t.Error(err)
	}
	back.checkAges(t)
}

// jumping is an agent whose wall clock the test sets.
type jumping struct {
	*sidecar
	clock string // the file with the offset of the wall clock in seconds
}

func startJumping(t *testing.T, program, node, etcd string) *jumping {
	t.Helper()
	j := &jumping{newSidecar(t, nil, node, etcd), filepath.Join(t.TempDir(), "clock")}
	j.argv[0], j.env = program, []string{"WALL_CLOCK_JUMP=" + j.clock}
	j.jump(t, 0)
	j.start(t)
	return j
}

// jump sets the offset of the agent's wall clock, and checks it while the agent runs.
func (j *jumping) jump(t *testing.T, by time.Duration) {
	t.Helper()
	f, err := os.OpenFile(j.clock, os.O_CREATE|os.O_WRONLY, 0o600) // the agent has mapped the file
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := binary.Write(f, binary.NativeEndian, int64(by/time.Second)); err != nil {
		t.Fatal(err)
	}
	if j.sidecar.process != nil && j.exited() != nil {
		j.checkClock(t, by)
	}
}

// checkClock checks the offset of the agent's clock in the Date of an answer.
func (j *jumping) checkClock(t *testing.T, by time.Duration) {
	t.Helper()
	resp, err := j.HTTP.Get(j.BaseURL + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	now, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		t.Fatal(err)
	}
	if off := time.Until(now) - by; off.Abs() > slack {
		t.Fatalf("the agent's clock says %v: its offset is not %v", now, by)
	}
}

// checkAges checks every age that the agent reports.
func (j *jumping) checkAges(t *testing.T) {
	t.Helper()
	status, err := j.Agent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, view, err := j.Lookup(t.Context(), "web", api.LookupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for what, age := range map[string]time.Duration{
		"status":    time.Duration(status.Catalog.Age),
		"keepalive": time.Duration(status.Session.LastKeepalive),
		"lookup":    view.Age,
		"metric":    time.Duration(j.metric(t, "disc_catalog_age_seconds") * float64(time.Second)),
	} {
		if age < 0 || age > slack {
			t.Errorf("%s: the age is %v", what, age)
		}
	}
}

// buildJumping builds disc with a package time whose wall clock has an offset, and whose
// monotonic clock has none. (Go does not get the time from libc, where it could be replaced.)
func buildJumping(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("needs the go command: ", err)
	}
	dir, source := t.TempDir(), filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	original, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	now := regexp.MustCompile(`(func Now\(\) Time \{\n\tsec, nsec, mono := \w+\(\)\n)`)
	if !now.Match(original) {
		t.Fatalf("%s/time.go: Now is not as this test expects", source)
	}
	changed := filepath.Join(dir, "time.go")
	if err := os.WriteFile(changed, now.ReplaceAll(original, []byte("$1\tsec += jump.Load()\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	jump, err := filepath.Abs("testdata/clock/jump.go")
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(source, "time.go"): changed, filepath.Join(source, "jump.go"): jump,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "disc")
	began := time.Now()
	if out, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, "../cmd/disc").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("built in %v", time.Since(began).Round(time.Second))
	return program
}
