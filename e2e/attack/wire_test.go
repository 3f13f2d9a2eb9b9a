package attack_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire is a connection of HTTP/2 that sends whatever it is told to (RFC 9113). What it sends by
// pump keeps to the windows that the agent gives, so that the agent has no reason to end it.
type wire struct {
	net.Conn
	*http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
	next    uint32 // id of the next stream

	pending map[uint32][]byte // bytes to send, by stream

	mu      sync.Mutex
	changed chan struct{} // closed when the agent allows more, or has closed the connection
	closed  bool
	ended   int              // streams that the agent has ended
	streams int              // that the agent allows at once; 0: it has not said yet
	initial int64            // window of a new stream
	window  int64            // of the connection
	windows map[uint32]int64 // of streams, besides initial
}

// open opens a connection with settings. If unread is true, nothing that the agent sends is
// read.
func (t *target) open(unread bool, settings ...http2.Setting) (*wire, error) {
	conn, err := t.connect()
	if err != nil {
		return nil, err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(max(*duration, 2*time.Second)))
	c := &wire{
		Conn: conn, Framer: http2.NewFramer(conn, conn), next: 1, pending: map[uint32][]byte{},
		changed: make(chan struct{}), initial: 65535, window: 65535, windows: map[uint32]int64{},
	}
	c.encoder, c.AllowIllegalWrites = hpack.NewEncoder(&c.block), true
	if _, err = io.WriteString(conn, http2.ClientPreface); err == nil {
		err = c.WriteSettings(settings...)
	}
	if err != nil {
		abandon(conn)
		return nil, err
	}
	if !unread {
		go c.read()
	}
	return c, nil
}

// read notes what the agent allows, until it closes the connection.
func (c *wire) read() {
	for {
		frame, err := c.ReadFrame()
		c.mu.Lock()
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if n, ok := f.Value(http2.SettingInitialWindowSize); ok {
				c.initial = int64(n)
			}
			if n, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
				c.streams = int(n)
			} else if c.streams == 0 && !f.IsAck() {
				c.streams = 1 << 20
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				c.ended++
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				c.ended++
			}
		case *http2.RSTStreamFrame:
			c.ended++
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				c.window += int64(f.Increment)
			} else {
				c.windows[f.StreamID] += int64(f.Increment)
			}
		}
		_, wrong := err.(http2.StreamError)
		c.closed = err != nil && !wrong
		close(c.changed)
		c.changed = make(chan struct{})
		closed := c.closed
		c.mu.Unlock()
		if closed {
			return
		}
	}
}

// allowed returns how many bytes of a stream may be sent now.
func (c *wire) allowed(id uint32) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(max(0, min(c.window, c.initial+c.windows[id], 16<<10)))
}

// await waits until the agent has said how many streams it allows, and returns that; 0: it has
// closed the connection.
func (c *wire) await(ctx context.Context) int {
	for {
		c.mu.Lock()
		streams, changed, closed := c.streams, c.changed, c.closed
		c.mu.Unlock()
		if streams > 0 || closed {
			return streams
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0
		}
	}
}

// turn waits until the agent allows one more stream. It returns an error when the agent has
// closed the connection.
func (c *wire) turn() error {
	for {
		c.mu.Lock()
		streams, ended, changed, closed := c.streams, c.ended, c.changed, c.closed
		c.mu.Unlock()
		switch {
		case closed:
			return net.ErrClosed
		case int(c.next/2)-ended < min(streams, 64):
			return nil
		}
		<-changed
	}
}

// request opens a stream and returns its id.
func (c *wire) request(method, path string, end bool, headers ...string) (uint32, error) {
	c.block.Reset()
	fields := append([]string{":method", method, ":scheme", "https", ":authority", "localhost", ":path", path}, headers...)
	for n := 0; n < len(fields); n += 2 {
		if err := c.encoder.WriteField(hpack.HeaderField{Name: fields[n], Value: fields[n+1]}); err != nil {
			return 0, err
		}
	}
	id := c.next
	c.next += 2
	return id, c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndStream: end, EndHeaders: true})
}

// unfinished opens a stream for a body that will lack its last byte.
func (c *wire) unfinished(path, media string, length int) error {
	id, err := c.request("POST", path, false, "content-type", media, "content-length", fmt.Sprint(length))
	c.pending[id] = zeros[:length-1]
	return err
}

var zeros = make([]byte, 1<<20)

// pump sends what is pending on all streams, as far as the agent allows, until ctx ends or the
// agent closes the connection.
func (c *wire) pump(ctx context.Context) error {
	for len(c.pending) > 0 {
		c.mu.Lock()
		changed, closed := c.changed, c.closed
		c.mu.Unlock()
		if closed {
			return nil
		}
		sent := false
		for id, left := range c.pending {
			n := min(c.allowed(id), len(left))
			if n == 0 {
				continue
			}
			if err := c.WriteData(id, false, left[:n]); err != nil {
				return err
			}
			c.mu.Lock()
			c.window -= int64(n)
			c.windows[id] -= int64(n)
			c.mu.Unlock()
			sent = true
			if c.pending[id] = left[n:]; len(left) == n {
				delete(c.pending, id)
			}
		}
		if sent {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// hold opens streams on connections, as many as the agent allows, sends what is pending on them,
// and keeps them until ctx ends.
func (t *target) hold(ctx context.Context, connections, streams int, open func(c *wire, n int) error, settings ...http2.Setting) error {
	var holding sync.WaitGroup
	opening := make(chan struct{}, 16)
	for n := range connections {
		holding.Go(func() {
			opening <- struct{}{}
			c, err := t.open(false, settings...)
			if err != nil {
				<-opening
				return // the agent has closed it
			}
			defer abandon(c.Conn)
			for k := 0; k < min(streams, c.await(ctx)) && err == nil; k++ {
				if err = open(c, n*streams+k); err == nil {
					t.did.Add(1)
				}
			}
			<-opening
			if err == nil {
				err = c.pump(ctx)
			}
			if err == nil {
				<-ctx.Done()
			}
		})
	}
	holding.Wait()
	return nil
}
