package cli

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"disc/config/input"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/kv"
	"disc/discovery/retry/retrytest"
)

func fifo(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// opened returns the writing end of a FIFO, once a process has begun to read it.
func opened(t *testing.T, name string) *os.File {
	t.Helper()
	var w *os.File
	retrytest.Eventually(t, "a process reads "+name, func() bool {
		var err error
		w, err = os.OpenFile(name, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	})
	t.Cleanup(func() { w.Close() })
	return w
}

// commandLine returns the variables at the begin of a command line, and the words after them.
func commandLine(line string) (env map[string]string, args []string) {
	env, args = map[string]string{}, strings.Fields(line)
	for {
		name, value, ok := strings.Cut(args[0], "=")
		if !ok {
			return env, args
		}
		env[name], args = value, args[1:]
	}
}

// A command that waits for a FIFO that nobody writes to, or for stdin, ends at a signal.
func TestSignalEndsRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		sig  syscall.Signal
		args string // FIFO is a FIFO without a writer; stdin is a pipe to which nothing is written
	}{
		{"value", syscall.SIGTERM, "kv set a -f FIFO"},
		{"value from stdin", syscall.SIGTERM, "kv set a -"},
		{"value from stdin, interrupted", syscall.SIGINT, "kv set a -f -"},
		{"static entry", syscall.SIGTERM, "set db/a -f FIFO"},
		{"static entry from stdin", syscall.SIGINT, "set db/a -f -"},
		{"template", syscall.SIGTERM, "render FIFO"},
		{"template of a file", syscall.SIGINT, "render -w FIFO:/nowhere/file"},
		{"settings", syscall.SIGTERM, "list --config FIFO"},
		{"settings of an agent", syscall.SIGTERM, "agent --config FIFO"},
		{"settings of disc dev", syscall.SIGINT, "dev --config FIFO"},
		{"certificates of etcd", syscall.SIGTERM, "list --cacert FIFO"},
		{"certificate", syscall.SIGTERM, "list --cert FIFO --key FIFO"},
		{"certificates of the agent", syscall.SIGTERM, "status --agent-cacert FIFO"},
		{"token", syscall.SIGTERM, "DISC_HTTP_TOKEN_FILE=FIFO status"},
		{"token of an agent", syscall.SIGTERM, "DISC_HTTP_TOKEN_FILE=FIFO agent"},
		{"certificate of an agent", syscall.SIGTERM, "DISC_HTTP_TLS_CERT=FIFO DISC_HTTP_TLS_KEY=FIFO agent --http 127.0.0.1:0 --dns 127.0.0.1:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stdin, silent, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			defer silent.Close()
			env, args := commandLine(strings.ReplaceAll(tt.args, "FIFO", fifo(t)))
			env[announced] = "1"
			p := startDiscWith(t, "http://127.0.0.1:1", env, stdin, args...)
			p.warns(programRuns)
			p.send(tt.sig)
			if code, want := p.code(), 128+int(tt.sig); code != want {
				t.Errorf("ends with %d, want %d", code, want)
			}
		})
	}
}

// So does one whose FIFO has a writer that does not write.
func TestSignalEndsReadOfSilentWriter(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t).Endpoint()
	for name, args := range map[string]string{
		"value":    "kv set a -f FIFO",
		"password": "kv get a --user disc --password-file FIFO --endpoints " + etcd,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := fifo(t)
			p := startDisc(t, "http://127.0.0.1:1", strings.Fields(strings.ReplaceAll(args, "FIFO", file))...)
			opened(t, file)
			p.send(syscall.SIGTERM)
			if code, want := p.code(), 128+int(syscall.SIGTERM); code != want {
				t.Errorf("ends with %d, want %d", code, want)
			}
		})
	}
}

// A FIFO is read to its end, whether the writer or the reader comes first.
func TestValueFromFIFO(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	file := fifo(t)
	go func() {
		if err := os.WriteFile(file, []byte("hello"), 0); err != nil {
			t.Error(err)
		}
	}()
	term.ok("kv", "set", "a", "-f", file)
	set := term.start("kv", "set", "b", "-f", file)
	w := opened(t, file)
	if _, err := w.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if code := set.ends(); code != exitDone {
		t.Errorf("ends with %d", code)
	}
	for _, key := range []string{"a", "b"} {
		if got := term.ok("kv", "get", key); got != "hello" {
			t.Errorf("%s: %q", key, got)
		}
	}
}

// flood is a stdin of 256 MiB. It counts what is taken.
type flood struct{ taken atomic.Int64 }

func (f *flood) Read(p []byte) (int, error) {
	if f.taken.Load() >= 256<<20 {
		return 0, errors.New("all of it is taken")
	}
	n := copy(p, bytes.Repeat([]byte("x"), min(len(p), 32<<10)))
	f.taken.Add(int64(n))
	return n, nil
}

// A stdin that does not end is read up to the limit, and no further.
func TestEndlessStdin(t *testing.T) {
	t.Parallel()
	const pipe = 256 << 10 // more than a pipe and the copying hold
	for _, tt := range []struct {
		args  string
		limit int64
		want  string
	}{
		{"kv set a -", kv.MaxValue, "stdin has more than 524288 bytes, which is the limit; give less"},
		{"kv set a -f -", kv.MaxValue, "stdin has more than 524288 bytes, which is the limit; give less"},
		{"set db/a -f -", input.MaxEntry, "stdin has more than 1048576 bytes, which is the limit; give less"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			stdin := &flood{}
			p := startDiscWith(t, "http://127.0.0.1:1", nil, stdin, strings.Fields(tt.args)...)
			if code := p.code(); code != exitUsage || !strings.Contains(p.stderr.String(), tt.want) {
				t.Errorf("ends with %d and %q, want %d and %q", code, p.stderr.String(), exitUsage, tt.want)
			}
			if taken := stdin.taken.Load(); taken > tt.limit+pipe {
				t.Errorf("%d bytes were taken, above the limit of %d", taken, tt.limit)
			}
		})
	}
}

// A file that is too large is refused before it is read whole.
func TestFileTooLarge(t *testing.T) {
	t.Parallel()
	large := filepath.Join(t.TempDir(), "large")
	if err := errors.Join(os.WriteFile(large, nil, 0o600), os.Truncate(large, 8<<20)); err != nil {
		t.Fatal(err)
	}
	for line, limit := range map[string]string{
		"kv set a -f LARGE":                 "524288",
		"set db/a -f LARGE":                 "1048576",
		"list --config LARGE":               "4194304",
		"render LARGE":                      "1048576",
		"render -w LARGE:/nowhere/file":     "1048576",
		"list --cacert LARGE":               "1048576",
		"list --cert LARGE --key LARGE":     "1048576",
		"status --agent-cacert LARGE":       "1048576",
		"DISC_HTTP_TOKEN_FILE=LARGE status": "65536",
		"DISC_HTTP_TOKEN_FILE=LARGE agent":  "65536",

		"run --service a --check https://a --check-ca LARGE -- true": "65536",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			env, args := commandLine(strings.ReplaceAll(line, "LARGE", large))
			term := newTerminal(t)
			maps.Copy(term.env, env)
			term.fails(exitUsage, "large has more than "+limit+" bytes, which is the limit", args...)
		})
	}
}
