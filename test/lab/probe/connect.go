package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Client is an HTTP client that calls from the host; every request makes a connection of its own.
func Client(h *netlab.Host, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{DialContext: h.DialContext, DisableKeepAlives: true},
	}
}

// Response is an HTTP answer.
type Response struct {
	Status int
	Body   string
	Took   time.Duration
}

// maxBody is how many bytes of an answer are read.
const maxBody = 1 << 20

// Get asks for url from the host. Statuses other than 2xx are errors, with the response filled in.
func Get(ctx context.Context, h *netlab.Host, url string, timeout time.Duration) (Response, error) {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Response{}, fmt.Errorf("%s: get %s: %w", h.Name(), url, err)
	}
	resp, err := Client(h, timeout).Do(req)
	if err != nil {
		return Response{}, fmt.Errorf("%s: %w", h.Name(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	r := Response{Status: resp.StatusCode, Body: string(body), Took: time.Since(begin)}
	if err == nil && r.Status/100 != 2 {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return r, fmt.Errorf("%s: get %s: %w", h.Name(), url, err)
	}
	return r, nil
}

// FirstGet asks for url, each time with the given patience, until the first success or the end of the context; the error then carries the last failure.
func FirstGet(ctx context.Context, h *netlab.Host, url string, patience time.Duration) (Response, error) {
	var last error
	for {
		begin := time.Now()
		r, err := Get(ctx, h, url, patience)
		if err == nil {
			return r, nil
		}
		if last == nil || ctx.Err() == nil { // the end of the context says less than what went before
			last = err
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("no answer in time: %w", last)
		case <-time.After(max(0, 10*time.Millisecond-time.Since(begin))): // a refusal comes at once: do not ask like mad
		}
	}
}

// Connects opens a TCP connection at a steady pace, whatever became of the ones before, and closes it at once.
type Connects struct {
	host     *netlab.Host
	address  string
	interval time.Duration
	patience time.Duration
}

// NewConnects prepares connecting to address every interval; an attempt that takes longer than patience has failed.
func NewConnects(h *netlab.Host, address string, interval, patience time.Duration) *Connects {
	return &Connects{host: h, address: address, interval: interval, patience: patience}
}

// Attempt is one connection.
type Attempt struct {
	Begin time.Time
	Took  time.Duration
	Err   error // nil: it came about
}

// Attempts are what [Connects] saw, in the order of their beginnings.
type Attempts []Attempt

// Run connects until the context ends, waits for the attempts under way, and returns them all.
func (c *Connects) Run(ctx context.Context) Attempts {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		list Attempts
	)
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		wg.Go(func() {
			a := c.attempt()
			mu.Lock()
			list = append(list, a)
			mu.Unlock()
		})
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	wg.Wait()
	slices.SortFunc(list, func(a, b Attempt) int { return a.Begin.Compare(b.Begin) })
	return list
}

func (c *Connects) attempt() Attempt {
	ctx, cancel := context.WithTimeout(context.Background(), c.patience)
	defer cancel()
	a := Attempt{Begin: time.Now()}
	var conn net.Conn
	conn, a.Err = c.host.DialContext(ctx, "tcp", c.address)
	a.Took = time.Since(a.Begin)
	if a.Err == nil {
		// Reset rather than linger: thousands of probes would fill the table of connections.
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
	return a
}

// LongestOutage is the longest time between the beginnings of two successful attempts with failures between them. An outage that lasts
// to the end counts up to the last attempt; one from the start counts from the first.
func (l Attempts) LongestOutage() time.Duration {
	var longest time.Duration
	var lastGood time.Time
	failing := false
	for i, a := range l {
		if lastGood.IsZero() {
			lastGood = l[0].Begin
		}
		if failing = failing || a.Err != nil; failing && (a.Err == nil || i == len(l)-1) {
			longest = max(longest, a.Begin.Sub(lastGood))
		}
		if a.Err == nil {
			lastGood, failing = a.Begin, false
		}
	}
	return longest
}

// Failed counts the attempts that did not come about.
func (l Attempts) Failed() int {
	n := 0
	for _, a := range l {
		if a.Err != nil {
			n++
		}
	}
	return n
}
