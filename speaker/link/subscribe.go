package link

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// subscription tells that something about links or addresses has changed.
type subscription struct {
	socket  *nl.NetlinkSocket
	noticed chan struct{} // capacity 1, coalesced
	failed  chan error    // the reader's last word
	done    chan struct{}
}

// subscribe opens a netlink socket for notifications in the caller's network namespace and reads it until stop.
func subscribe() (*subscription, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, fmt.Errorf("subscribe to netlink: %w", err)
	}
	s := &subscription{socket: socket, noticed: make(chan struct{}, 1), failed: make(chan error, 1), done: make(chan struct{})}
	go s.read()
	return s, nil
}

// read turns notifications into a signal. An overrun (ENOBUFS) means that some were lost, which is as good a reason to look.
func (s *subscription) read() {
	defer close(s.done)
	for {
		_, _, err := s.socket.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			s.failed <- fmt.Errorf("read netlink notifications: %w", err)
			return
		}
		s.notice()
	}
}

// notice leaves the signal that there is something to look at.
func (s *subscription) notice() {
	select {
	case s.noticed <- struct{}{}:
	default:
	}
}

func (s *subscription) stop() {
	s.socket.Close()
	<-s.done
}
