package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/heraldlb/herald/config/kube"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// api is an API server: it knows some tokens, may be away, may take its time, and counts what it is asked.
type api struct {
	mu     sync.Mutex
	tokens map[string]kube.Review
	away   error
	hold   chan struct{} // nil: answers at once; else when it is closed
	asked  int
	now    int // under way
	most   int
}

func (a *api) MayGet(ctx context.Context, token, path string) (kube.Review, error) {
	a.mu.Lock()
	a.asked++
	a.now++
	a.most = max(a.most, a.now)
	hold := a.hold
	a.mu.Unlock()
	defer func() { a.mu.Lock(); a.now--; a.mu.Unlock() }()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return kube.Review{}, ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if path != "/metrics" {
		return kube.Review{}, fmt.Errorf("asked for %s", path)
	}
	return a.tokens[token], a.away
}

func (a *api) set(change func(*api)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *api) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func newAPI() *api {
	return &api{tokens: map[string]kube.Review{
		"good": {User: "prometheus", Allowed: true},
		"poor": {User: "default", Reason: "no rule"},
	}}
}

// asker returns what sends a request with a header through a guard, and says what came back.
func asker(a *api) func(authorization string) (int, string) {
	h := New(a, slog.New(slog.DiscardHandler)).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "secret")
	}))
	return func(authorization string) (int, string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		h.ServeHTTP(w, r)
		if ok := w.Code == http.StatusOK; ok != (w.Body.String() == "secret") {
			panic(fmt.Sprintf("status %d with %q", w.Code, w.Body))
		}
		if (w.Code == http.StatusUnauthorized) != (w.Header().Get("WWW-Authenticate") != "") {
			panic("WWW-Authenticate belongs to status 401 (RFC 9110, section 11.6.1)")
		}
		return w.Code, w.Body.String()
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name, header string
		away         error
		status       int
		says         string
		asked        int
	}{
		{"allowed", "Bearer good", nil, 200, "secret", 1},
		{"the scheme in another case, and spaces", "bearer  good ", nil, 200, "secret", 1},
		{"not allowed", "Bearer poor", nil, 403, "default may not get /metrics: bind a ClusterRole", 1},
		{"why not", "Bearer poor", nil, 403, "(no rule)", 1},
		{"nobody's", "Bearer x", nil, 401, "does not know this token", 1},
		{"no header", "", nil, 401, "no bearer token", 0},
		{"no token", "Bearer ", nil, 401, "no bearer token", 0},
		{"another scheme", "Basic good", nil, 401, "no bearer token", 0},
		{"too long", "Bearer " + strings.Repeat("x", longest+1), nil, 401, "no bearer token", 0},
		{"API server away", "Bearer good", errors.New("connection refused by 10.0.0.1"), 503, "cannot ask the API server", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAPI()
			a.away = c.away
			status, text := asker(a)(c.header)
			if status != c.status || !strings.Contains(text, c.says) || strings.Contains(text, "10.0.0.1") {
				t.Errorf("%d %q, want %d with %q", status, text, c.status, c.says)
			}
			if a.count() != c.asked {
				t.Errorf("the API server was asked %d times, want %d", a.count(), c.asked)
			}
		})
	}
}

// TestTimes: how long which answer counts.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		ask := asker(a)
		expect := func(what, header string, status, asked int) {
			t.Helper()
			if got, text := ask(header); got != status {
				t.Errorf("%s: %d %q, want %d", what, got, text, status)
			}
			if got := a.count(); got != asked {
				t.Errorf("%s: the API server was asked %d times, want %d", what, got, asked)
			}
		}
		expect("first", "Bearer good", 200, 1)
		time.Sleep(yesFresh - time.Second)
		expect("a fresh yes", "Bearer good", 200, 1)
		time.Sleep(2 * time.Second)
		expect("a yes that is not fresh", "Bearer good", 200, 2)

		expect("no", "Bearer poor", 403, 3)
		a.set(func(a *api) { a.tokens["poor"] = kube.Review{User: "default", Allowed: true} })
		expect("a fresh no", "Bearer poor", 403, 3)
		time.Sleep(noFresh + time.Second)
		expect("allowed meanwhile", "Bearer poor", 200, 4)

		a.set(func(a *api) { a.away = errors.New("connection refused") })
		time.Sleep(yesFresh)
		expect("a yes holds while nobody can be asked", "Bearer good", 200, 5)
		expect("but not for others", "Bearer other", 503, 6)
		time.Sleep(yesHolds - yesFresh)
		expect("and not for ever", "Bearer good", 503, 7)

		a.set(func(a *api) { a.away = nil; delete(a.tokens, "good") })
		expect("a token that is revoked", "Bearer good", 401, 8)
		a.set(func(a *api) { a.away = errors.New("connection refused") })
		time.Sleep(noFresh)
		expect("stays so when nobody can be asked", "Bearer good", 503, 9)
	})
}

// TestRevoked: an answer that a token is good no more ends what was held.
func TestRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		ask := asker(a)
		ask("Bearer good")
		a.set(func(a *api) { a.tokens["good"] = kube.Review{User: "prometheus"} })
		time.Sleep(yesFresh)
		if status, _ := ask("Bearer good"); status != 403 {
			t.Errorf("after the role was taken away: %d", status)
		}
		a.set(func(a *api) { a.away = errors.New("connection refused") })
		time.Sleep(noFresh)
		if status, _ := ask("Bearer good"); status != 503 {
			t.Errorf("an old yes came back: %d", status)
		}
	})
}

// TestSlowAPIServer: those who ask the same wait for one answer; those who ask something else are no more than a few at a time, and none waits
// for ever.
func TestSlowAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		a.hold = make(chan struct{})
		ask := asker(a)
		statuses := make(chan int, 100)
		send := func(n int, header string) {
			for range n {
				go func() { status, _ := ask(header); statuses <- status }()
			}
			synctest.Wait()
		}
		send(8, "Bearer good")
		if a.count() != 1 {
			t.Errorf("one question was asked %d times", a.count())
		}
		close(a.hold)
		for range 8 {
			if status := <-statuses; status != 200 {
				t.Errorf("status %d", status)
			}
		}

		time.Sleep(yesFresh) // and with it the pace
		a.set(func(a *api) { a.hold = make(chan struct{}) })
		began := time.Now()
		for i := range burst {
			send(1, fmt.Sprintf("Bearer other-%d", i))
		}
		a.set(func(a *api) {
			if a.most > parallel {
				t.Errorf("%d reviews at a time", a.most)
			}
		})
		send(1, "Bearer good") // waits for a place as long as the others, then what was said before holds
		counts := map[int]int{}
		for range burst + 1 {
			counts[<-statuses]++
		}
		if counts[503] != burst || counts[200] != 1 {
			t.Errorf("statuses %v", counts)
		}
		if waited := time.Since(began); waited > patience {
			t.Errorf("waited %s", waited)
		}
	})
}

// TestFlood: tokens that somebody makes up neither keep the API server busy nor fill the memory, and who is known gets through.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		g := New(a, slog.New(slog.DiscardHandler))
		if _, err := g.ask(t.Context(), "good", "/metrics"); err != nil {
			t.Fatal(err)
		}
		const seconds = 120
		for i := range seconds * 100 {
			_, _ = g.ask(t.Context(), fmt.Sprint("made-up-", i), "/metrics")
			time.Sleep(10 * time.Millisecond)
			if i%100 == 0 {
				if access, err := g.ask(t.Context(), "good", "/metrics"); err != nil || !access.Allowed {
					t.Fatalf("after %d s: %v, %v", i/100, access, err)
				}
			}
		}
		if most := burst + seconds*perSecond + 5; a.count() > most {
			t.Errorf("the API server was asked %d times, want at most %d", a.count(), most)
		}
		if n := len(g.no.known); n > mostNo {
			t.Errorf("%d refusals are remembered", n)
		}
	})
}

// TestWarns: that there are no answers is told, and not for each request.
func TestWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		a := newAPI()
		a.away = errors.New("connection refused")
		h := New(a, slog.New(slog.NewTextHandler(&out, nil))).Handler(http.NotFoundHandler())
		for range 90 {
			r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			r.Header.Set("Authorization", "Bearer good")
			h.ServeHTTP(httptest.NewRecorder(), r)
			time.Sleep(time.Second)
		}
		if n := strings.Count(out.String(), "connection refused"); n != 2 {
			t.Errorf("told %d times in 90 s:\n%s", n, out.String())
		}
	})
}

func TestAnswersOldestGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(2)
		for _, k := range []string{"a", "b", "a", "c"} {
			a.put(k, kube.Review{User: k})
			time.Sleep(time.Second)
		}
		for k, want := range map[string]bool{"a": true, "b": false, "c": true} {
			if _, ok := a.get(k, time.Hour); ok != want {
				t.Errorf("%s: %t, want %t", k, ok, want)
			}
		}
	})
}
