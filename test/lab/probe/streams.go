package probe

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Stream is what became of one long-lived connection.
type Stream struct {
	Lines   int           // that came
	Silence time.Duration // the longest time between two lines
	Err     error         // why it ended before it was told to; nil: it lived
}

// Streams are connections that stay open while their servers go on sending lines.
type Streams []Stream

// HoldStreams opens a number of connections to url, which has to answer with lines for ever, and reads until the context ends. open is
// called once when all of them have their first line.
func HoldStreams(ctx context.Context, h *netlab.Host, url string, number int, open func()) Streams {
	list := make(Streams, number)
	var done, opened sync.WaitGroup
	opened.Add(number)
	for i := range list {
		var once sync.Once
		first := func() { once.Do(opened.Done) }
		done.Go(func() {
			defer first() // also when it never came to that
			list[i] = hold(ctx, h, url, first)
		})
	}
	opened.Wait()
	open()
	done.Wait()
	return list
}

func hold(ctx context.Context, h *netlab.Host, url string, first func()) (s Stream) {
	broken := func(err error) Stream {
		if ctx.Err() == nil {
			s.Err = fmt.Errorf("%s: stream of %s after %d lines: %w", h.Name(), url, s.Lines, err)
		}
		return s
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return broken(err)
	}
	response, err := Client(h, 0).Do(request)
	if err != nil {
		return broken(err)
	}
	defer response.Body.Close()
	last := time.Now()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		now := time.Now()
		if s.Lines++; s.Lines > 1 {
			s.Silence = max(s.Silence, now.Sub(last))
		}
		last = now
		first()
	}
	if err := lines.Err(); err != nil {
		return broken(err)
	}
	return broken(fmt.Errorf("the server ended it"))
}

// Broken counts the streams that ended by themselves.
func (l Streams) Broken() int {
	n := 0
	for _, s := range l {
		if s.Err != nil {
			n++
		}
	}
	return n
}

// LongestSilence is the longest time in which a stream that lived was told nothing.
func (l Streams) LongestSilence() time.Duration {
	var longest time.Duration
	for _, s := range l {
		longest = max(longest, s.Silence)
	}
	return longest
}
