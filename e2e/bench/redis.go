package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// redis is a running Redis.
type redis struct {
	*process
	socket     string
	host, port string
	conn       *redisConn
}

// redis starts a Redis that keeps nothing on disk.
func (s *stage) redis() (*redis, error) {
	r := &redis{socket: filepath.Join(s.dir, "redis.sock")}
	// Redis cannot choose a free port itself. This loopback address is made of the process's id,
	// so that no other process takes the port before Redis does.
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 64+pid>>16, pid>>8&255, pid&255))
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	r.host, r.port, _ = net.SplitHostPort(address)
	l.Close()
	r.process, err = s.run(exec.Command("redis-server", "--port", r.port, "--bind", r.host,
		"--unixsocket", r.socket, "--save", "", "--appendonly", "no", "--dir", s.dir), nil)
	if err != nil {
		return nil, err
	}
	if _, err := r.await("The server is now ready to accept connections at"); err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	s.onClose(func() { conn.Close() })
	r.conn = newRedisConn(conn)
	return r, nil
}

// redisConn is a connection that uses the part of RESP, Redis's protocol, that the rows need.
type redisConn struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

func newRedisConn(c net.Conn) *redisConn {
	return &redisConn{conn: c, in: bufio.NewReaderSize(c, 1<<20)}
}

// do sends a command, and reads and discards its answer. It returns the number of elements of
// an array, the number of bytes of a string, or the value of an integer.
func (c *redisConn) do(args ...string) (int, error) {
	b := fmt.Appendf(c.out[:0], "*%d\r\n", len(args))
	for _, arg := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(arg)), 10), "\r\n"...)
		b = append(append(b, arg...), "\r\n"...)
	}
	c.out = b
	if _, err := c.conn.Write(b); err != nil {
		return 0, err
	}
	return c.read()
}

func (c *redisConn) read() (int, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	kind, text := line[0], string(line[1:len(line)-2])
	switch kind {
	case '+':
		return 0, nil
	case '-':
		return 0, fmt.Errorf("redis: %s", text)
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 0:
		return n, err
	case kind == '$':
		_, err = c.in.Discard(n + 2)
	case kind == '*':
		for i := 0; i < n && err == nil; i++ {
			_, err = c.read()
		}
	}
	return n, err
}

var redisRate = regexp.MustCompile(`([0-9.]+) requests per second`)

// benchmarkGet loads Redis with GET of a key for about d.
func (r *redis) benchmarkGet(ctx context.Context, d time.Duration, key string, more ...string) (load, error) {
	requests := max(10_000, int(d.Seconds()*redisRateEstimate))
	args := append([]string{"-q", "-c", strconv.Itoa(connections), "-n", strconv.Itoa(requests), "-h", r.host, "-p", r.port}, more...)
	out, err := exec.CommandContext(ctx, "redis-benchmark", append(args, "GET", key)...).CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("redis-benchmark: %w: %s", err, out)
	}
	l := load{requests: float64(requests)}
	l.rate, err = parseFigure(redisRate, out)
	return l, err
}

// redisRateEstimate is about the number of requests that Redis answers in a second. It turns a
// time into the number of requests, which redis-benchmark needs.
const redisRateEstimate = 70_000
