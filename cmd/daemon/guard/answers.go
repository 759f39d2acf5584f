package guard

import (
	"sync"
	"time"

	"github.com/heraldlb/herald/config/kube"
)

// answers remembers a bounded number of answers; the oldest goes first.
type answers struct {
	most int

	mu    sync.Mutex
	known map[string]answer // guarded by mu
}

type answer struct {
	access kube.Review
	at     time.Time
}

func newAnswers(most int) *answers { return &answers{most: most, known: map[string]answer{}} }

// get returns an answer that is younger than a time.
func (a *answers) get(key string, younger time.Duration) (kube.Review, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found, ok := a.known[key]
	return found.access, ok && time.Since(found.at) < younger
}

// put remembers an answer.
func (a *answers) put(key string, access kube.Review) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.known[key]; !ok && len(a.known) >= a.most {
		delete(a.known, a.oldest())
	}
	a.known[key] = answer{access, time.Now()}
}

func (a *answers) drop(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, key)
}

// oldest needs mu.
func (a *answers) oldest() string {
	var oldest string
	var at time.Time
	for key, one := range a.known {
		if oldest == "" || one.at.Before(at) {
			oldest, at = key, one.at
		}
	}
	return oldest
}
