package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// receiver is a connection with watches that does only what etcd needs to send events. In a
// real fleet the receivers run on other hosts. Here they share etcd's cores, so a receiver
// uses as little CPU time as it can: it counts events without decoding them.
type receiver struct {
	conn    net.Conn
	framer  *http2.Framer
	out     *bufio.Writer
	partial map[uint32][]byte // by stream: the first bytes of an incomplete message
}

// unlimited is a flow-control window that a row never uses up.
const unlimited = 1 << 30

// dialReceiver connects to etcd. For each agent it opens a watch stream, with a watch for each
// of the agent's prefixes, from a revision; 0: from now on.
func dialReceiver(ctx context.Context, address string, agents [][]string, revision int64) (*receiver, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	r := &receiver{conn: conn, out: bufio.NewWriter(conn), partial: map[uint32][]byte{}}
	r.framer = http2.NewFramer(r.out, bufio.NewReaderSize(conn, 2048))
	r.framer.SetReuseFrames()
	if err := r.handshake(address, agents, revision); err != nil {
		conn.Close()
		return nil, fmt.Errorf("watch %s: %w", address, err)
	}
	return r, nil
}

func (r *receiver) handshake(address string, agents [][]string, revision int64) error {
	_, err := r.out.WriteString(http2.ClientPreface)
	err = errors.Join(err,
		r.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: unlimited}),
		r.framer.WriteWindowUpdate(0, unlimited))
	for n, prefixes := range agents {
		err = errors.Join(err, r.open(uint32(2*n+1), address, prefixes, revision))
	}
	return errors.Join(err, r.out.Flush())
}

// open opens a stream and requests its watches, as clientv3 does with a leader required.
func (r *receiver) open(stream uint32, address string, prefixes []string, revision int64) error {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", pb.Watch_Watch_FullMethodName}, {":authority", address},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"hasleader", "true"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return err
		}
	}
	if err := r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
		return err
	}
	for _, prefix := range prefixes {
		create := &pb.WatchCreateRequest{Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)), StartRevision: revision}
		message, err := proto.Marshal(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
		if err != nil {
			return err
		}
		framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
		if err := r.framer.WriteData(stream, false, framed); err != nil {
			return err
		}
	}
	return nil
}

// run reads frames until the connection ends. It calls created with the number of watches that
// etcd has created, and events with the number of events.
func (r *receiver) run(created, events func(int)) error {
	for {
		frame, err := r.framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			err = r.consume(f, created, events)
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = errors.Join(r.framer.WriteSettingsAck(), r.out.Flush())
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = errors.Join(r.framer.WritePing(true, f.Data), r.out.Flush())
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				err = fmt.Errorf("etcd ended the watch: %s", grpcStatus(f))
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			err = fmt.Errorf("etcd ended the watch: %v", f.Header())
		}
		if err != nil {
			return err
		}
	}
}

// grpcStatus returns the status in a stream's last headers, in the words of gRPC.
func grpcStatus(f *http2.HeadersFrame) string {
	var text []string
	decoder := hpack.NewDecoder(4096, func(h hpack.HeaderField) { text = append(text, h.Name+": "+h.Value) })
	if _, err := decoder.Write(f.HeaderBlockFragment()); err != nil {
		text = append(text, err.Error())
	}
	return strings.Join(text, ", ")
}

// consume counts the messages that the frame completes, and stores an incomplete rest.
func (r *receiver) consume(f *http2.DataFrame, created, events func(int)) error {
	b := f.Data()
	if before := r.partial[f.StreamID]; len(before) > 0 {
		b = append(before, b...)
	}
	for len(b) >= 5 {
		end := 5 + int(binary.BigEndian.Uint32(b[1:]))
		if end > len(b) {
			break
		}
		if err := countEvents(b[5:end], created, events); err != nil {
			return err
		}
		b = b[end:]
	}
	if len(b) > 0 || r.partial[f.StreamID] != nil {
		r.partial[f.StreamID] = append([]byte(nil), b...)
	}
	return nil
}

// The field numbers of etcd's WatchResponse that a receiver reads.
const (
	fieldCreated  = 3
	fieldCanceled = 4
	fieldEvents   = 11
)

// countEvents reads a WatchResponse, field by field.
func countEvents(response []byte, created, events func(int)) error {
	n := 0
	for len(response) > 0 {
		field, _, length := protowire.ConsumeField(response)
		if length < 0 {
			return fmt.Errorf("read a watch response: %w", protowire.ParseError(length))
		}
		switch field {
		case fieldCreated:
			created(1)
		case fieldCanceled:
			return errors.New("etcd canceled a watch")
		case fieldEvents:
			n++
		}
		response = response[length:]
	}
	if n > 0 {
		events(n)
	}
	return nil
}

// close closes the connection, which ends run.
func (r *receiver) close() error { return r.conn.Close() }
