package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
)

// The registrations of one agent, and the changes of others beside them.
const (
	registerMaxWritten = 10_000 // bytes written for each registration, to all files and sockets
	besideChanges      = 20     // a second, of one instance of another agent
	besideWindow       = 10 * time.Second
	besideWriters      = 16 // concurrent registrations, before the measurement
)

func registerRows() []row {
	return []row{{
		name:    "registrations",
		about:   "10000 registrations of one agent, one after the other: PUTs over HTTP, each saved and written to etcd",
		against: "bare net/http that puts, appends and syncs",
		figures: []figure{
			{name: "time each", unit: "µs", bound: atMost(1.5)},
			{name: "the same time", unit: "µs", against: "an append and a sync alone"},
			{name: "written each", unit: "bytes", bound: atMost(1), against: "the limit"},
		},
		start: startRegister,
	}, {
		name:    "beside",
		about:   fmt.Sprintf("CPU time of an agent with 4000 registrations, while an instance of another agent changes %d times a second", besideChanges),
		against: "an agent without registrations",
		figures: []figure{
			{name: "CPU, of another service", unit: "%", bound: atMost(2)},
			{name: "CPU, of their service", unit: "%", bound: atMost(2)},
		},
		start: startBeside,
	}}
}

func startRegister(_ context.Context, s *stage) (pair, error) {
	count, round := s.size(10_000, 20), 0
	return pair{
		disc: func(ctx context.Context) ([]float64, error) {
			round++
			took, bytes, err := s.registerAll(ctx, count, func(endpoint string) (*agent, error) {
				return s.agent(endpoint, fmt.Sprintf("bench-%d", round))
			})
			return []float64{took, took, bytes}, err
		},
		other: func(ctx context.Context) ([]float64, error) {
			bare, _, err := s.registerAll(ctx, count, s.bareRegistrar)
			if err != nil {
				return nil, err
			}
			alone, err := s.appendAll(count)
			return []float64{bare, micros(alone), registerMaxWritten}, err
		},
	}, nil
}

// registerAll starts a program on a new etcd, and registers instances with it, one after the other.
// It returns the time of each in microseconds, and the bytes that the program wrote for it.
func (s *stage) registerAll(ctx context.Context, count int, start func(endpoint string) (*agent, error)) (each, bytes float64, err error) {
	etcd, client, err := s.etcd()
	if err != nil {
		return 0, 0, err
	}
	defer etcd.kill()
	a, err := start(client.Endpoints()[0])
	if err != nil {
		return 0, 0, err
	}
	defer a.kill()
	if err := await(ctx, func() error { return register(ctx, a.http, serviceName(count/serviceSize), count) }); err != nil { // until there is a session
		return 0, 0, err
	}
	before, err := written(a.pid())
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	for n := range count {
		if err := register(ctx, a.http, serviceName(n/serviceSize), n); err != nil {
			return 0, 0, err
		}
	}
	took := time.Since(began)
	after, err := written(a.pid())
	return micros(took) / float64(count), float64(after-before) / float64(count), err
}

// bareRegistrar starts a bare handler that registers instances in an etcd.
func (s *stage) bareRegistrar(endpoint string) (*agent, error) {
	p, address, err := s.start("register", nil, endpoint, filepath.Join(s.dir, "registered"))
	return &agent{process: p, http: address}, err
}

// runBareRegister is the least handler on net/http that registers what it is sent: it puts it to the
// etcd of its first argument, and appends it to the file of its second one, which it syncs.
func runBareRegister(ctx context.Context, args []string, _ io.Reader, out io.Writer) error {
	client, err := connect(args[0])
	if err != nil {
		return err
	}
	defer client.Close()
	f, err := openToAppend(args[1])
	if err != nil {
		return err
	}
	defer f.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = client.Put(r.Context(), r.URL.Path, string(body))
		}
		if err == nil {
			err = appendSynced(f, append(body, '\n'))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Write(body)
	})}
	fmt.Fprintln(out, ready+tcp.Addr().String())
	context.AfterFunc(ctx, func() { s.Close() })
	s.Serve(tcp)
	return nil
}

// appendAll appends as many lines as there are registrations to a new file, and syncs each. It
// returns the time of each.
func (s *stage) appendAll(count int) (time.Duration, error) {
	f, err := openToAppend(filepath.Join(s.dir, "appended"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	line, err := json.Marshal(map[string]any{"put": registration("web", 0)})
	if err != nil {
		return 0, err
	}
	line = append(line, '\n')
	start := time.Now()
	for range count {
		if err := appendSynced(f, line); err != nil {
			return 0, err
		}
	}
	return time.Since(start) / time.Duration(count), nil
}

// openToAppend opens an empty file.
func openToAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
}

func appendSynced(f *os.File, line []byte) error {
	if _, err := f.Write(line); err != nil {
		return err
	}
	return f.Sync()
}

// putInstance writes the record of an instance to etcd.
func putInstance(ctx context.Context, client *clientv3.Client, i discovery.Instance) error {
	_, err := client.Put(ctx, discovery.NewKeys("default").Instance(i.Service, i.ID), string(i.Encode()))
	return err
}

// registration returns an instance of a service as programs register it.
func registration(service string, n int) discovery.Registration {
	return discovery.Registration{Service: service, ID: fmt.Sprintf("%s-%d", service, n), Port: 1024 + n, Zone: "eu-west-1a",
		Tags: []string{"v2"}, Meta: map[string]string{"Team": "core"}}
}

// register registers an instance with the agent at an address, and fails unless it is in etcd and saved.
func register(ctx context.Context, address, service string, n int) error {
	r := registration(service, n)
	path := fmt.Sprintf("/v1/services/%s/instances/%s", r.Service, r.ID)
	r.Service, r.ID = "", "" // the path has them
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode >= http.StatusAccepted || resp.Header.Get("Disc-Warning") != "") {
		err = fmt.Errorf("PUT %s: %s: %s", path, resp.Status, answer)
	}
	return err
}

// written returns the bytes that a process has written so far, to files and sockets (proc_pid_io(5)).
func written(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`wchar: (\d+)`).FindSubmatch(b)
	if found == nil {
		return 0, fmt.Errorf("/proc/%d/io has no wchar", pid)
	}
	return strconv.Atoi(string(found[1]))
}

// startBeside starts two agents that see the same fleet: the registrations of one of them.
func startBeside(ctx context.Context, s *stage) (pair, error) {
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	registering, err := s.agent(client.Endpoints()[0], "registering")
	if err != nil {
		return pair{}, err
	}
	seeing, err := s.agent(client.Endpoints()[0], "seeing")
	if err != nil {
		return pair{}, err
	}
	count := s.size(4000, 20)
	if err := await(ctx, func() error { return register(ctx, registering.http, "web", 0) }); err != nil { // until there is a session
		return pair{}, err
	}
	group, registrations := errgroup.WithContext(ctx)
	group.SetLimit(besideWriters)
	for n := range count {
		group.Go(func() error { return register(registrations, registering.http, "web", n) })
	}
	if err := group.Wait(); err != nil {
		return pair{}, err
	}
	window := besideWindow
	if s.quick {
		window = s.window
	}
	side := func(a *agent) side {
		return func(ctx context.Context) (used []float64, err error) {
			for _, service := range []string{"other", "web"} {
				share, err := besideChangesOf(ctx, client, service, func() ([]float64, error) { return cpuShares(ctx, window, a.process) })
				if err != nil {
					return nil, err
				}
				used = append(used, share...)
			}
			return used, nil
		}
	}
	return pair{side(registering), side(seeing)}, nil
}

// besideChangesOf calls measure while an instance of a service changes [besideChanges] times a second.
func besideChangesOf(ctx context.Context, client *clientv3.Client, service string, measure func() ([]float64, error)) (used []float64, err error) {
	ctx, end := context.WithCancel(ctx)
	group, changing := errgroup.WithContext(ctx)
	group.Go(func() error {
		next := time.NewTicker(time.Second / besideChanges)
		defer next.Stop()
		i := instance(service, 1_000_000)
		for {
			i.Weight = i.Weight%100 + 1
			if err := putInstance(changing, client, i); changing.Err() != nil {
				return nil
			} else if err != nil {
				return err
			}
			select {
			case <-changing.Done():
				return nil
			case <-next.C:
			}
		}
	})
	used, err = measure()
	end()
	if changeErr := group.Wait(); err == nil {
		err = changeErr
	}
	return used, err
}
