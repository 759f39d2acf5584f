package controller

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/config"
)

// TestPoolAppears lets a thousand Services wait for a pool: its coming is one pass, in which each is written once, and so is its pause,
// in which none is.
func TestPoolAppears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		c := newCluster(t)
		defer c.start()()
		for i := range n {
			c.put(service(fmt.Sprint("s", i)))
		}
		time.Sleep(time.Minute)
		if got := len(c.records().writes); got != n {
			t.Fatalf("%d writes to tell %d Services that there is no pool", got, n)
		}
		c.forget()
		change := func(p *config.Pool) time.Time {
			c.mu.Lock()
			c.rest.Pools = []*config.Pool{p}
			c.mu.Unlock()
			c.signal()
			return time.Now()
		}
		began := change(pool("a", "10.0.0.0", "10.0.255.255"))
		for c.held() < n && time.Since(began) < time.Minute {
			time.Sleep(time.Millisecond)
		}
		if took, least := time.Since(began), n*c.latency/writers; took > 2*least {
			t.Errorf("all had an address after %v; the requests alone take %v", took, least)
		}
		time.Sleep(time.Minute)
		if got := c.assignments(); got != n {
			t.Errorf("%d writes of addresses for %d Services", got, n)
		}
		c.forget()
		paused := *pool("a", "10.0.0.0", "10.0.255.255")
		paused.Paused = true
		change(&paused)
		time.Sleep(time.Minute)
		if got := len(c.records().writes); got != 0 {
			t.Errorf("%d writes to Services when their pool was paused", got)
		}
	})
}
