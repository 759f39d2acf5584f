package scene

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/lab/probe"
	"github.com/heraldlb/herald/test/lab/router"
)

func TestDiverted(t *testing.T) {
	begin := time.Unix(0, 0)
	failed := func(err error) probe.Attempt {
		return probe.Attempt{Begin: begin, Took: time.Millisecond, Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)}}
	}
	for name, c := range map[string]struct {
		attempt probe.Attempt
		change  time.Duration // after the connection was begun
		want    bool
	}{
		"reset meanwhile":           {failed(syscall.ECONNRESET), 500 * time.Microsecond, true},
		"no route meanwhile":        {failed(syscall.EHOSTUNREACH), 500 * time.Microsecond, true},
		"notice read a little late": {failed(syscall.ECONNRESET), 50 * time.Millisecond, true},
		"changed before":            {failed(syscall.ECONNRESET), -time.Millisecond, false},
		"changed long after":        {failed(syscall.ECONNRESET), time.Second, false},
		"refused":                   {failed(syscall.ECONNREFUSED), 500 * time.Microsecond, false},
		"timed out":                 {failed(syscall.ETIMEDOUT), 500 * time.Microsecond, false},
		"another error":             {probe.Attempt{Begin: begin, Took: time.Millisecond, Err: errors.New("?")}, 500 * time.Microsecond, false},
		"none":                      {probe.Attempt{Begin: begin, Took: time.Millisecond}, 500 * time.Microsecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Passage{Changes: []router.Event{{Time: begin.Add(c.change)}}}
			if got := p.Diverted(c.attempt); (got != nil) != c.want {
				t.Errorf("Diverted = %v, want one: %v", got, c.want)
			}
		})
	}
}
