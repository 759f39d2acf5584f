package nettest

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/frame"
)

// Wire is one end of an Ethernet cable in memory: a frame.Conn without a filter.
type Wire struct {
	in     <-chan []byte
	out    chan<- []byte
	closed chan struct{}
	once   sync.Once
}

// Wires returns the two ends of a cable.
func Wires() (*Wire, *Wire) {
	ab, ba := make(chan []byte, 1024), make(chan []byte, 1024)
	return &Wire{in: ba, out: ab, closed: make(chan struct{})}, &Wire{in: ab, out: ba, closed: make(chan struct{})}
}

// ReadFrom waits for a frame from the other end.
func (w *Wire) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case f := <-w.in:
		return copy(b, f), nil, nil
	case <-w.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo sends a frame to the other end.
func (w *Wire) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case <-w.closed:
		return 0, net.ErrClosed
	case w.out <- slices.Clone(b):
		return len(b), nil
	}
}

// SetBPF does nothing: what a filter lets through is the kernel's part.
func (w *Wire) SetBPF([]bpf.RawInstruction) error { return nil }

// Close wakes the reader.
func (w *Wire) Close() error { w.once.Do(func() { close(w.closed) }); return nil }

// Client is a station that sends frames to a responder and looks at what comes back.
type Client struct {
	t      testing.TB
	conn   frame.Conn
	frames chan []byte
}

// NewClient returns the station behind conn; it is closed at the end of the test.
func NewClient(t testing.TB, conn frame.Conn) *Client {
	c := &Client{t: t, conn: conn, frames: make(chan []byte, 4096)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			select {
			case c.frames <- slices.Clone(buf[:n]):
			default: // the test looks at the first ones
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return c
}

// OpenClient returns a station on a real interface that hears all frames of one Ethernet protocol.
func OpenClient(t testing.TB, ifi config.Interface, protocol int) *Client {
	t.Helper()
	conn, err := frame.Listen(ifi, protocol)
	if err != nil {
		t.Fatalf("client: %v", err)
	}
	all, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 2048}})
	if err == nil {
		err = conn.SetBPF(all)
	}
	if err != nil {
		t.Fatalf("client: %v", err)
	}
	return NewClient(t, conn)
}

// Send sends a frame.
func (c *Client) Send(b []byte) {
	c.t.Helper()
	if err := frame.Send(c.conn, b); err != nil {
		c.t.Fatalf("client sends: %v", err)
	}
}

// Next returns the next frame that came, and fails the test when none comes for long.
func (c *Client) Next() []byte {
	c.t.Helper()
	select {
	case b := <-c.frames:
		return b
	case <-time.After(2 * time.Minute):
		c.t.Fatal("no frame came within two minutes")
		return nil
	}
}

// Waiting returns a frame that came already, nil when there is none.
func (c *Client) Waiting() []byte {
	select {
	case b := <-c.frames:
		return b
	default:
		return nil
	}
}
