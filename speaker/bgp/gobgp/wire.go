package gobgp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// How long the last message to a peer may take, and then the peer until it closes the connection; one that does not read is left alone.
const (
	rebuke  = time.Second     // a peer that did something wrong, or fell silent
	goodbye = 5 * time.Second // a peer that is no longer wanted
)

// frame is a message as it came: its type and what follows the header.
type frame struct {
	kind uint8
	body []byte
}

// wire is a connection cut into messages. One goroutine reads; it ends when the connection does.
//
// Once the session is established, UPDATE messages are counted by the reader and go no further. So a peer that sends a full table costs no
// memory, and is read also while we wait for it to read: two that only write would wait for each other.
type wire struct {
	conn   net.Conn
	update func(body []byte) // counts an UPDATE; the body is valid during the call only
	frames chan frame        // closed when reading ended, after err was set
	err    error             // why reading ended
	heard  atomic.Int64      // when the last message came, in nanoseconds since start
	up     atomic.Bool       // the session is established
	start  time.Time
	closed chan struct{}
}

func newWire(conn net.Conn, update func([]byte)) *wire {
	w := &wire{conn: conn, update: update, frames: make(chan frame), start: time.Now(), closed: make(chan struct{})}
	go w.read()
	return w
}

// close closes the connection and waits for the reader. It is called once, by the owner.
func (w *wire) close() {
	w.conn.Close()
	close(w.closed)
	for range w.frames { // until the reader has gone
	}
}

// drain waits for the peer to close the connection, as it does when it has read our last message. We must not close it first. With unread
// input TCP would reset it, and a reset may overtake what was sent. And a busy FRR notices the end of a connection before it gets to read
// the NOTIFICATION that came before it: it takes us for restarting and keeps our routes.
func (w *wire) drain(within time.Duration) {
	w.conn.SetReadDeadline(time.Now().Add(within))
	for range w.frames {
	}
	_, _ = io.Copy(io.Discard, w.conn) // reading may have ended over a malformed message
}

// hangUp ends the connection without a word, and waits for the peer to have noticed. Until then nothing else may tell it that we are away:
// FRR keeps the routes of a neighbour whose connection ends, but not of one whose BFD session does so first.
func (w *wire) hangUp(within time.Duration) {
	if half, ok := w.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		w.drain(within)
	}
}

// silence returns for how long the peer has said nothing.
func (w *wire) silence() time.Duration { return time.Since(w.start) - time.Duration(w.heard.Load()) }

func (w *wire) read() {
	defer close(w.frames)
	in := bufio.NewReaderSize(w.conn, 1<<16)
	body := make([]byte, packet.BGP_MAX_MESSAGE_LENGTH)
	for {
		f, err := readFrame(in, body)
		if err != nil {
			w.err = err
			return
		}
		w.heard.Store(int64(time.Since(w.start)))
		if f.kind == packet.BGP_MSG_UPDATE && w.up.Load() {
			w.update(f.body)
			continue
		}
		f.body = bytes.Clone(f.body)
		select {
		case w.frames <- f:
		case <-w.closed:
			w.err = net.ErrClosed
			return
		}
	}
}

// readFrame reads one message into buf and checks what RFC 4271 section 6.1 asks of its header. Such errors are *fault values.
func readFrame(r io.Reader, buf []byte) (frame, error) {
	head := buf[:packet.BGP_HEADER_LENGTH]
	if _, err := io.ReadFull(r, head); err != nil {
		return frame{}, err
	}
	for _, b := range head[:16] {
		if b != 0xff {
			return frame{}, newFault(packet.BGP_ERROR_MESSAGE_HEADER_ERROR, packet.BGP_ERROR_SUB_CONNECTION_NOT_SYNCHRONIZED, nil,
				"the peer sent something that is not BGP (bad marker)")
		}
	}
	length, kind := int(binary.BigEndian.Uint16(head[16:])), head[18]
	least, known := shortest(kind)
	if !known {
		return frame{}, newFault(packet.BGP_ERROR_MESSAGE_HEADER_ERROR, packet.BGP_ERROR_SUB_BAD_MESSAGE_TYPE, []byte{kind},
			fmt.Sprintf("the peer sent a message of unknown type %d", kind))
	}
	if length < least || length > packet.BGP_MAX_MESSAGE_LENGTH || kind == packet.BGP_MSG_KEEPALIVE && length != least {
		return frame{}, newFault(packet.BGP_ERROR_MESSAGE_HEADER_ERROR, packet.BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, bytes.Clone(head[16:18]),
			fmt.Sprintf("the peer sent a message of type %d with the impossible length %d", kind, length))
	}
	f := frame{kind: kind, body: buf[:length-len(head)]}
	_, err := io.ReadFull(r, f.body)
	return f, err
}

// shortest returns the least length of a message of the given type, header included, and whether there is such a type.
func shortest(kind uint8) (int, bool) {
	switch kind {
	case packet.BGP_MSG_OPEN:
		return 29, true
	case packet.BGP_MSG_UPDATE, packet.BGP_MSG_ROUTE_REFRESH:
		return 23, true
	case packet.BGP_MSG_NOTIFICATION:
		return 21, true
	case packet.BGP_MSG_KEEPALIVE:
		return 19, true
	default:
		return 0, false
	}
}

// send writes messages within the given time, or within the time for a goodbye once ctx has ended. After an error the connection is of
// no use any more.
func (w *wire) send(ctx context.Context, within time.Duration, messages ...[]byte) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	// A write that stands when ctx ends is not waited for longer than a goodbye; over a failed path, not at all.
	stop := context.AfterFunc(ctx, func() {
		wait := goodbye
		if _, failed := errors.AsType[*fault](context.Cause(ctx)); failed {
			wait = 0
		}
		w.conn.SetWriteDeadline(time.Now().Add(wait))
	})
	defer stop()
	for _, m := range messages {
		if _, err := w.conn.Write(m); err != nil {
			return err
		}
	}
	return nil
}

// keepalive is the one KEEPALIVE message there is (RFC 4271 section 4.4).
func keepalive() []byte { return mustSerialize(packet.NewBGPKeepAliveMessage()) }

// mustSerialize returns the bytes of a message we made. That they cannot be made is a bug.
func mustSerialize(m *packet.BGPMessage) []byte {
	b, err := m.Serialize()
	if err != nil {
		panic(fmt.Sprintf("gobgp: serialize own message: %v", err))
	}
	return b
}

// guard calls f and turns a panic of the packet library over a peer's bytes into an error.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("message cannot be read: %v", r)
		}
	}()
	return f()
}
