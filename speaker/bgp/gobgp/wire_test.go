package gobgp

import (
	"io"
	"net"
	"testing"
	"time"
)

// TestHangUp: it is over when the peer has noticed; a peer that does not is not waited for long.
func TestHangUp(t *testing.T) {
	for name, hangs := range map[string]bool{"the peer closes": false, "the peer hangs": true} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			defer l.Close()
			ours, err := net.Dial("tcp", l.Addr().String())
			must(t, err)
			theirs, err := l.Accept()
			must(t, err)
			defer theirs.Close()
			noticed := make(chan time.Time, 1)
			if !hangs {
				go func() {
					_, _ = io.Copy(io.Discard, theirs) // until our end is over
					noticed <- time.Now()
					theirs.Close()
				}()
			}
			w := newWire(ours, func([]byte) {})
			within := time.Minute
			if hangs {
				within = 50 * time.Millisecond
			}
			began := time.Now()
			w.hangUp(within)
			w.close()
			if took := time.Since(began); hangs && took < within || took > 30*time.Second {
				t.Errorf("took %s", took)
			}
			if !hangs && time.Now().Before(<-noticed) {
				t.Error("it was over before the peer had noticed")
			}
		})
	}
}
