package frame

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"time"

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
func Listen(ifi config.Interface, protocol int) (*Socket, error) {
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
	raw, err := conn.SyscallConn()
	if err == nil {
		err = prepare(raw)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("set up packet socket on %s: %w", ifi.Name, err)
	}
	return &Socket{Conn: conn, raw: raw, oob: make([]byte, 128)}, nil
}

// queue is how much may wait for the reader, in bytes of kernel memory: some thousand frames, of clients that all ask at once while the
// process has to wait for a processor.
const queue = 4 << 20

// prepare makes the socket's receive queue as long as the process may (without CAP_NET_ADMIN that is net.core.rmem_max; what the queue
// is already serves as well) and has the kernel say when each frame came.
func prepare(raw syscall.RawConn) (err error) {
	control := raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queue) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, queue)
		}
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	return errors.Join(control, err)
}

// Socket is a packet socket that reads no frames that are too old. A process that was frozen finds the questions of that time in its queue,
// among them those for addresses that others have taken over meanwhile; and who asked and got no answer has asked again since.
type Socket struct {
	*packet.Conn
	raw syscall.RawConn
	oob []byte // the reader's
}

// tooOld is the age at which a frame is not read any more: systems ask again after a second.
const tooOld = time.Second

// ReadFrom reads the next frame. It is for one goroutine. The address is nil: the frame says itself where it comes from.
func (s *Socket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, age, err := s.receive(b)
		if err != nil || age < tooOld {
			return n, nil, err
		}
	}
}

// receive waits for a frame and returns its length and how long ago it came.
func (s *Socket) receive(b []byte) (n int, age time.Duration, err error) {
	var oobn int
	wait := s.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, err = unix.Recvmsg(int(fd), b, s.oob, unix.MSG_DONTWAIT)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if err = cmp.Or(wait, err); err != nil {
		return 0, 0, err
	}
	if at, ok := stamp(s.oob[:oobn]); ok {
		age = time.Since(at)
	}
	return n, age, nil
}

// stamp finds the time of arrival in control messages.
func stamp(oob []byte) (time.Time, bool) {
	for len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if header.Level == unix.SOL_SOCKET && header.Type == unix.SCM_TIMESTAMPNS && len(data) == 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:]))), true
		}
		oob = rest
	}
	return time.Time{}, false
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
