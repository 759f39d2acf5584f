package interop

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router/peer"
)

// TestComeBack: a router that was away for a while is found soon after it is there again, whatever the connect time is.
func TestComeBack(t *testing.T) {
	netlab.Need(t)
	if err := peer.Available(peer.FRR); err != nil {
		t.Skip(err)
	}
	const away = 10 * time.Second
	for _, tt := range []struct {
		name string
		bfd  *config.BFDProfile
	}{
		{"without BFD", nil},
		{"with BFD", &config.BFDProfile{ReceiveInterval: 300 * time.Millisecond, TransmitInterval: 300 * time.Millisecond, DetectMultiplier: 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCell(t, peer.FRR)
			conf, p := c.external(), our()
			conf.BFD, p.BFD = tt.bfd != nil, tt.bfd
			p.ConnectTime = time.Minute
			c.start(conf)
			s := c.speaker(c.watched)
			began := time.Now()
			s.tell(p, route(service4))
			s.up()
			c.Logf("the first session was up after %s", time.Since(began).Round(time.Millisecond))
			time.Sleep(away)     // a session that does not last is not taken up again so soon
			_ = c.daemon.Close() // killed
			time.Sleep(away)
			c.restart(conf)
			began = time.Now()
			s.up()
			took := time.Since(began)
			c.Logf("away for %s: back %s after it took connections again", away, took.Round(time.Millisecond))
			if took > p.ConnectTime/2 {
				t.Errorf("it took %s until the session was back, with a connect time of %s", took, p.ConnectTime)
			}
		})
	}
}
