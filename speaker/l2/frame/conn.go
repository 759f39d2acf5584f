package frame

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
)

// Conn is a socket that carries whole Ethernet frames of one protocol on one interface.
type Conn interface {
	ReadFrom(b []byte) (int, net.Addr, error)
	WriteTo(b []byte, to net.Addr) (int, error)
	SetBPF(filter []bpf.RawInstruction) error
	Close() error
}

// Listen opens a packet socket for one Ethernet protocol on the interface. It lets nothing through until a Gate opens it. It needs
// CAP_NET_RAW and fails with fs.ErrPermission without.
func Listen(ifi config.Interface, protocol int) (Conn, error) {
	shut, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	mac, err := net.ParseMAC(ifi.MAC)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", ifi.Name, err)
	}
	dev := &net.Interface{Index: ifi.Index, Name: ifi.Name, HardwareAddr: mac}
	conn, err := packet.Listen(dev, packet.Raw, protocol, &packet.Config{Filter: shut})
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", ifi.Name, err)
	}
	widen(conn)
	return conn, nil
}

// queue is how much may wait for the reader, in bytes of kernel memory: some thousand frames, of clients that all ask at once while the
// process has to wait for a processor.
const queue = 4 << 20

// widen makes the socket's receive queue as long as the process may, which without CAP_NET_ADMIN is net.core.rmem_max. What it already is
// serves as well.
func widen(conn *packet.Conn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queue) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, queue)
		}
	})
}

// Serve hands each frame to handle until ctx ends (nil) or the socket fails (its error). It closes the socket. The frame is valid during
// the call only.
func Serve(ctx context.Context, conn Conn, handle func(frame []byte)) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer conn.Close()
	defer stop()
	buf := make([]byte, snap)
	for {
		n, _, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		handle(buf[:n])
	}
}

// Close closes a socket that may be closed already.
func Close(conn Conn) error {
	if err := conn.Close(); err != nil && !errors.Is(err, fs.ErrClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Send sends one frame. The link-layer destination is read from the frame itself.
func Send(conn Conn, frame []byte) error {
	if len(frame) < 14 {
		return errors.New("frame shorter than its header")
	}
	_, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
	return err
}
