package netlab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The control socket is a sequenced-packet pair between the outer process and the program inside. A request is one JSON message with a
// socket for the answer, so that requests need no order; an answer is one JSON message, with a descriptor where one was asked for.
// A socket keeps the network namespace it was made in: a listener that the outer process opens and hands over goes on listening
// outside while the program inside accepts on it.

// controlEnv holds the id of the process that owns the control socket; its children inherit the variable, but not the socket.
const controlEnv = "HERALD_NETLAB_CONTROL"

type controlRequest struct {
	Op      string `json:"op"` // "listen" or "pid"
	Network string `json:"network,omitempty"`
	Address string `json:"address,omitempty"`
}

type controlAnswer struct {
	PID   int    `json:"pid,omitempty"`
	Error string `json:"error,omitempty"`
}

const controlMax = 4096 // bytes of one message

func controlPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// adoptControl makes the inherited control socket this process's own.
func adoptControl() error {
	syscall.CloseOnExec(fdControl)
	if err := os.Setenv(controlEnv, strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	return os.Setenv(stageEnv, stageInside)
}

// serveControl answers the inside until the socket closes.
func serveControl(sock *os.File, initPID int) {
	fd := int(sock.Fd())
	for {
		body, reply, err := receive(fd)
		if err != nil || reply == nil {
			return
		}
		var req controlRequest
		var ans controlAnswer
		var pass *os.File
		if err := json.Unmarshal(body, &req); err != nil {
			ans.Error = err.Error()
		} else {
			ans, pass = answer(req, initPID)
		}
		_ = send(int(reply.Fd()), ans, pass) // an asker that is gone needs no answer
		reply.Close()
	}
}

func answer(req controlRequest, initPID int) (controlAnswer, *os.File) {
	switch req.Op {
	case "pid":
		return controlAnswer{PID: initPID}, nil
	case "listen":
		f, err := listenFile(req.Network, req.Address)
		if err != nil {
			return controlAnswer{Error: err.Error()}, nil
		}
		return controlAnswer{}, f
	}
	return controlAnswer{Error: "unknown request " + req.Op}, nil
}

func listenFile(network, address string) (*os.File, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("listen %s: only TCP is forwarded", network)
	}
	return tcp.File()
}

// askOuter sends one request to the outer process; the file is nil unless the answer carries a descriptor.
func askOuter(req controlRequest) (controlAnswer, *os.File, error) {
	var ans controlAnswer
	if os.Getenv(controlEnv) != strconv.Itoa(os.Getpid()) {
		return ans, nil, errors.New("only the process that netlab.Enter returned in can ask the outer one")
	}
	mine, theirs, err := controlPair()
	if err != nil {
		return ans, nil, fmt.Errorf("make answer socket: %w", err)
	}
	defer mine.Close()
	err = send(fdControl, req, theirs)
	if err != nil {
		return ans, nil, fmt.Errorf("ask the outer process: %w", err)
	}
	body, pass, err := receive(int(mine.Fd()))
	if err != nil {
		return ans, nil, fmt.Errorf("hear from the outer process: %w", err)
	}
	if err := json.Unmarshal(body, &ans); err != nil {
		return ans, pass, fmt.Errorf("hear from the outer process: %w", err)
	}
	if ans.Error != "" {
		return ans, pass, errors.New(ans.Error)
	}
	return ans, pass, nil
}

// send writes one message and hands pass, if not nil, over: it is closed here.
func send(fd int, message any, pass *os.File) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if pass != nil {
		defer pass.Close()
		rights = unix.UnixRights(int(pass.Fd()))
	}
	return unix.Sendmsg(fd, body, rights, nil, unix.MSG_NOSIGNAL)
}

// receive reads one message and the descriptor that came with it, if any.
func receive(fd int) ([]byte, *os.File, error) {
	buf, oob := make([]byte, controlMax), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
	for errors.Is(err, unix.EINTR) {
		n, oobn, _, _, err = unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil || oobn == 0 {
		return buf[:max(n, 0)], nil, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, nil, fmt.Errorf("parse passed descriptor: %w", err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return nil, nil, fmt.Errorf("parse passed descriptor: %w", err)
	}
	return buf[:n], os.NewFile(uintptr(fds[0]), "passed"), nil
}

// InitPID is the process id, outside, of the laboratory's process 1: its namespaces are those to join from another shell.
func InitPID() (int, error) {
	ans, _, err := askOuter(controlRequest{Op: "pid"})
	return ans.PID, err
}

// ListenOuter opens a TCP listener in the network that [Enter] was called in, for example "127.0.0.1:0"; connections are accepted here, inside.
func ListenOuter(network, address string) (net.Listener, error) {
	_, f, err := askOuter(controlRequest{Op: "listen", Network: network, Address: address})
	if err != nil {
		return nil, fmt.Errorf("listen outside on %s: %w", address, err)
	}
	if f == nil {
		return nil, fmt.Errorf("listen outside on %s: no socket came back", address)
	}
	defer f.Close()
	return net.FileListener(f)
}
