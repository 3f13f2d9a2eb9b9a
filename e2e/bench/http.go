package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// connections is the number of concurrent clients.
const connections = 32

const lookupPath = "/v1/lookup/web"

func httpRows() []row {
	return []row{{
		name:    "http",
		about:   fmt.Sprintf("GET %s of 10 instances, %d connections, wrk", lookupPath, connections),
		against: "bare net/http",
		needs:   []string{"wrk"},
		figures: []figure{{name: "lookups", unit: "/s", bound: atLeast(0.9)}, {name: "CPU a lookup", unit: "µs"}},
		start:   startHTTP,
	}, {
		name:    "http-rate",
		about:   fmt.Sprintf("the same at %d a second, over %d connections", fixedRate, connections),
		against: "bare net/http",
		figures: []figure{{name: "p50", unit: "µs"}, {name: "p99", unit: "µs"}},
		start:   startHTTPRate,
	}, {
		name:    "http-redis",
		about:   fmt.Sprintf("the same lookup with wrk, and GET of as many bytes with redis-benchmark, %d connections each", connections),
		against: "Redis GET",
		needs:   []string{"wrk", "redis-server", "redis-benchmark"},
		figures: []figure{{name: "lookups", unit: "/s", bound: atLeast(1)}, {name: "CPU a lookup", unit: "µs"}},
		start:   startHTTPRedis,
	}, {
		name:    "unix",
		about:   fmt.Sprintf("the same over the Unix socket, %d connections, loaded by this program", connections),
		against: "bare net/http",
		figures: []figure{{name: "lookups", unit: "/s", bound: atLeast(0.9)}, {name: "CPU a lookup", unit: "µs"}},
		start:   startUnix,
	}, {
		name:    "unix-redis",
		about:   fmt.Sprintf("the same over the Unix socket, and GET of as many bytes, %d connections each, loaded by this program", connections),
		against: "Redis GET",
		needs:   []string{"redis-server"},
		figures: []figure{{name: "lookups", unit: "/s"}, {name: "CPU a lookup", unit: "µs"}},
		start:   startUnixRedis,
	}}
}

// fixedRate is the rate of the latency rows, in requests a second. It is well below what
// either side can answer on one core.
const fixedRate = 5000

// answer is an HTTP answer that the bare handler repeats.
type answer struct {
	Header http.Header
	Body   []byte
}

// fetch gets a path of an agent. A status other than 200 is an error.
func fetch(address, path string) (answer, error) {
	resp, err := http.Get("http://" + address + path)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	resp.Header.Del("Date") // net/http adds it
	return answer{resp.Header, body}, err
}

// runBareHTTP is the least handler on net/http. It reads an answer from its input and gives
// it to every request, over TCP and over a Unix socket at the path of its first argument.
func runBareHTTP(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	var a answer
	if err := json.NewDecoder(in).Decode(&a); err != nil {
		return err
	}
	socket, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), a.Header)
		w.Write(a.Body)
	})}
	go s.Serve(socket)
	fmt.Fprintln(out, ready+tcp.Addr().String())
	context.AfterFunc(ctx, func() { s.Close() })
	s.Serve(tcp)
	return nil
}

// bareHTTP starts a bare handler that gives the same answer as an agent.
func (s *stage) bareHTTP(a *agent) (*agent, error) {
	answer, err := fetch(a.http, lookupPath)
	if err != nil {
		return nil, err
	}
	input, err := s.input("answer", answer)
	if err != nil {
		return nil, err
	}
	bare := &agent{socket: filepath.Join(s.dir, "bare.sock")}
	bare.process, bare.http, err = s.start("http", input, bare.socket)
	return bare, err
}

// agentAndBare starts an agent that knows 10 instances, and a bare handler with its answer.
func agentAndBare(ctx context.Context, s *stage) (a, bare *agent, err error) {
	if _, a, err = s.fleet(ctx, 10); err != nil {
		return nil, nil, err
	}
	bare, err = s.bareHTTP(a)
	return a, bare, err
}

// agentAndRedis starts an agent that knows 10 instances, and a Redis that has the agent's
// answer under lookupPath.
func agentAndRedis(ctx context.Context, s *stage) (*agent, *redis, error) {
	_, a, err := s.fleet(ctx, 10)
	if err != nil {
		return nil, nil, err
	}
	r, err := s.redis()
	if err != nil {
		return nil, nil, err
	}
	answer, err := fetch(a.http, lookupPath)
	if err != nil {
		return nil, nil, err
	}
	_, err = r.conn.do("SET", lookupPath, string(answer.Body))
	return a, r, err
}

// wrkSide loads an agent, or a bare handler, over TCP.
func (s *stage) wrkSide(a *agent, path string) side {
	return func(ctx context.Context) ([]float64, error) {
		return measureCPU(a.pid(), func() (load, error) { return wrk(ctx, s.window, "http://"+a.http+path) })
	}
}

// redisSide loads Redis with GET of a key over TCP.
func (s *stage) redisSide(r *redis, key string) side {
	return func(ctx context.Context) ([]float64, error) {
		return measureCPU(r.pid(), func() (load, error) { return r.benchmarkGet(ctx, s.window, key) })
	}
}

// unixSide loads a process over a Unix socket.
func (s *stage) unixSide(pid int, socket string, over func(net.Conn) requester) side {
	return func(ctx context.Context) ([]float64, error) {
		return measureCPU(pid, func() (load, error) { return closedLoop(ctx, s.window, dialer{"unix", socket}, over) })
	}
}

// rateSide loads an agent, or a bare handler, at [fixedRate].
func (s *stage) rateSide(a *agent) side {
	return func(ctx context.Context) ([]float64, error) {
		p50, p99, err := openLoop(ctx, s.window, fixedRate, dialer{"tcp", a.http}, lookupOver)
		return []float64{micros(p50), micros(p99)}, err
	}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func startHTTP(ctx context.Context, s *stage) (pair, error) {
	a, bare, err := agentAndBare(ctx, s)
	if err != nil {
		return pair{}, err
	}
	return pair{s.wrkSide(a, lookupPath), s.wrkSide(bare, lookupPath)}, nil
}

func startHTTPRate(ctx context.Context, s *stage) (pair, error) {
	a, bare, err := agentAndBare(ctx, s)
	if err != nil {
		return pair{}, err
	}
	return pair{s.rateSide(a), s.rateSide(bare)}, nil
}

func startHTTPRedis(ctx context.Context, s *stage) (pair, error) {
	a, r, err := agentAndRedis(ctx, s)
	if err != nil {
		return pair{}, err
	}
	return pair{s.wrkSide(a, lookupPath), s.redisSide(r, lookupPath)}, nil
}

func startUnix(ctx context.Context, s *stage) (pair, error) {
	a, bare, err := agentAndBare(ctx, s)
	if err != nil {
		return pair{}, err
	}
	return pair{s.unixSide(a.pid(), a.socket, lookupOver), s.unixSide(bare.pid(), bare.socket, lookupOver)}, nil
}

func startUnixRedis(ctx context.Context, s *stage) (pair, error) {
	a, r, err := agentAndRedis(ctx, s)
	if err != nil {
		return pair{}, err
	}
	return pair{s.unixSide(a.pid(), a.socket, lookupOver), s.unixSide(r.pid(), r.socket, getOver(lookupPath))}, nil
}

// load is the result of a load generator.
type load struct {
	rate     float64 // answers a second
	requests float64
}

// measureCPU generates a load. It returns the rate, and the microseconds of CPU time that the
// process pid used for each request.
func measureCPU(pid int, generate func() (load, error)) ([]float64, error) {
	before, err := cpuTime(pid)
	if err != nil {
		return nil, err
	}
	l, err := generate()
	if err != nil {
		return nil, err
	}
	after, err := cpuTime(pid)
	return []float64{l.rate, float64((after - before).Microseconds()) / l.requests}, err
}

var (
	wrkRate     = regexp.MustCompile(`Requests/sec:\s*([0-9.]+)`)
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkFailed   = regexp.MustCompile(`Non-2xx.*|Socket errors.*`)
)

// wrkThreads is wrk's number of threads: one is slower than the server that it loads.
// redis-benchmark keeps its default of one, since Redis answers fewer requests of two.
const wrkThreads = "-t2"

// wrk loads a URL for d, in whole seconds.
func wrk(ctx context.Context, d time.Duration, url string) (load, error) {
	seconds := max(1, int(d.Seconds()))
	out, err := exec.CommandContext(ctx, "wrk", wrkThreads, fmt.Sprintf("-c%d", connections), fmt.Sprintf("-d%ds", seconds), "--timeout", fmt.Sprintf("%ds", int(waitTimeout.Seconds())), url).CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("wrk %s: %w: %s", url, err, out)
	}
	if failed := wrkFailed.Find(out); failed != nil {
		return load{}, fmt.Errorf("wrk %s: %s", url, failed)
	}
	var l load
	if l.rate, err = parseFigure(wrkRate, out); err != nil {
		return load{}, err
	}
	l.requests, err = parseFigure(wrkRequests, out)
	return l, err
}

// parseFigure returns the number that the pattern's first group matches in a program's output.
func parseFigure(pattern *regexp.Regexp, out []byte) (float64, error) {
	match := pattern.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("%q does not match the output:\n%s", pattern, out)
	}
	return strconv.ParseFloat(string(match[1]), 64)
}
