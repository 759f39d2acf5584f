package link

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// subscription tells that something about links or addresses has changed, and which links something happened to that no later look shows.
type subscription struct {
	socket  *nl.NetlinkSocket
	noticed chan struct{} // capacity 1, coalesced
	failed  chan error    // the reader's last word
	done    chan struct{}

	mu      sync.Mutex
	stirred map[int]struct{} // indexes of links, since they were taken last
}

// subscribe opens a netlink socket for notifications in the caller's network namespace and reads it until stop.
func subscribe() (*subscription, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, fmt.Errorf("subscribe to netlink: %w", err)
	}
	s := &subscription{socket: socket, noticed: make(chan struct{}, 1), failed: make(chan error, 1), done: make(chan struct{}), stirred: map[int]struct{}{}}
	go s.read()
	return s, nil
}

// read turns notifications into a signal. An overrun (ENOBUFS) means that some were lost, which is as good a reason to look.
func (s *subscription) read() {
	defer close(s.done)
	for {
		messages, _, err := s.socket.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			s.failed <- fmt.Errorf("read netlink notifications: %w", err)
			return
		}
		s.sift(messages)
		s.notice()
	}
}

// sift takes down the links that messages say were stirred.
func (s *subscription) sift(messages []syscall.NetlinkMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range messages {
		if index, ok := stirred(m); ok {
			s.stirred[index] = struct{}{}
		}
	}
}

// take returns the indexes of the links that were stirred since the last call.
func (s *subscription) take() map[int]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stirred
	s.stirred = map[int]struct{}{}
	return out
}

// stirred reports whether a message says of a link that no frame passes, which may be over when one looks, or that the neighbours should be
// told of it anew.
func stirred(m syscall.NetlinkMessage) (index int, ok bool) {
	if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return 0, false
	}
	info := nl.DeserializeIfInfomsg(m.Data)
	if !isUp(info.Flags) {
		return int(info.Index), true
	}
	attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return 0, false
	}
	for _, a := range attrs {
		if a.Attr.Type != unix.IFLA_EVENT || len(a.Value) < 4 {
			continue
		}
		switch nl.NativeEndian().Uint32(a.Value) {
		case unix.IFLA_EVENT_NOTIFY_PEERS, unix.IFLA_EVENT_BONDING_FAILOVER:
			return int(info.Index), true
		}
	}
	return 0, false
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
