package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Forwarder carries TCP connections from the outer network to an address of a host inside.
type Forwarder struct {
	listener net.Listener
	host     *Host
	target   string
}

// Forward listens outside, on a free port of 127.0.0.1, for connections to target as the host sees it ("10.10.0.1:6443"); [Forwarder.Run] carries them.
func Forward(h *Host, target string) (*Forwarder, error) {
	if err := literal(target); err != nil {
		return nil, err
	}
	l, err := ListenOuter("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &Forwarder{listener: l, host: h, target: target}, nil
}

// Addr is the address outside.
func (f *Forwarder) Addr() string { return f.listener.Addr().String() }

// Run carries connections until the context ends, then closes them and the listener.
func (f *Forwarder) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { f.listener.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			cancel()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("forward to %s: %w", f.target, err)
		}
		wg.Go(func() { f.carry(ctx, conn) })
	}
}

// carry copies both ways; an end of one direction is passed on, so that half-closed connections work.
func (f *Forwarder) carry(ctx context.Context, outer net.Conn) {
	defer outer.Close()
	inner, err := f.host.DialContext(ctx, "tcp", f.target)
	if err != nil {
		return // the caller outside sees its connection closed, as with a port nobody listens on
	}
	defer inner.Close()
	stop := context.AfterFunc(ctx, func() { outer.Close(); inner.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { pour(inner, outer) })
	wg.Go(func() { pour(outer, inner) })
	wg.Wait()
}

func pour(dst, src net.Conn) {
	_, _ = io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
