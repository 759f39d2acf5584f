package member

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// sign is what a connection to the gossip port of a node tells.
type sign uint8

// Signs.
const (
	silence sign = iota // nothing
	refusal             // the node lives, and no speaker listens there
	welcome             // something listens
	blind               // this node could not even ask
)

// knock opens connections to a gossip port, one more each time that much has passed without an answer, and tells what came of them. It is
// the kernel of the node that answers, also while the speaker there gets no processor; and the outcome is read off the sockets in the end,
// so that this process, too, may be late. It takes at most times*every, or once more every if it was late.
func knock(to netip.AddrPort, times int, every time.Duration) sign {
	var asked calls
	defer asked.close()
	began := time.Now()
	for range times {
		if s := asked.connect(to); s != silence {
			return s
		}
		if s := asked.await(every); s != silence {
			return s
		}
	}
	if len(asked.fds) == 0 && !asked.failed {
		return blind
	}
	if time.Since(began) > time.Duration(times)*every+lateBy { // this process or all of the machine slept: an answer may be on its way in
		return asked.await(every)
	}
	return silence
}

// calls are connections under way.
type calls struct {
	fds    []unix.PollFd
	failed bool // the network said of one that it cannot reach the node
}

// connect begins another connection; the answer may be there at once.
func (c *calls) connect(to netip.AddrPort) sign {
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port())})
	if to.Addr().Is4() {
		sa.(*unix.SockaddrInet4).Addr = to.Addr().As4()
	} else {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return silence // no sockets left: see blind
	}
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // ends it at once, leaving nothing behind
	err = unix.Connect(fd, sa)
	c.fds = append(c.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT})
	if err == unix.EINPROGRESS || err == unix.EINTR {
		return silence
	}
	return c.take(len(c.fds)-1, err)
}

// await waits for an answer to any of the connections.
func (c *calls) await(wait time.Duration) sign {
	end := time.Now().Add(wait)
	for left := wait; left >= 0; left = time.Until(end) {
		n, _ := unix.Poll(c.fds, int((left+time.Millisecond-1)/time.Millisecond)) // an interrupted call is repeated
		for i := len(c.fds) - 1; i >= 0 && n > 0; i-- {
			if c.fds[i].Revents == 0 {
				continue
			}
			code, err := unix.GetsockoptInt(int(c.fds[i].Fd), unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && code != 0 {
				err = unix.Errno(code)
			}
			if s := c.take(i, err); s != silence {
				return s
			}
		}
		if n == 0 {
			break
		}
	}
	return silence
}

// take reads the outcome of a connection. One that failed on the way is over, and says no more than that.
func (c *calls) take(i int, err error) sign {
	switch {
	case err == nil:
		return welcome
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
		return refusal
	}
	_ = unix.Close(int(c.fds[i].Fd))
	c.fds = append(c.fds[:i], c.fds[i+1:]...)
	c.failed = true
	return silence
}

func (c *calls) close() {
	for _, f := range c.fds {
		_ = unix.Close(int(f.Fd))
	}
}
