// Package guard lets through those requests to an HTTP handler whose bearer token belongs to somebody who may make them, as the API server
// says. Its answers are kept for a short time; without an answer the request is refused.
package guard

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/heraldlb/herald/config/kube"
)

// How long answers count.
const (
	yesFresh = time.Minute      // not asked again
	yesHolds = 5 * time.Minute  // while the API server cannot be asked
	noFresh  = 10 * time.Second // short, so that a permission that was just given soon works
)

// Bounds, so that nobody who reaches the port can keep the API server busy, or our memory, with tokens that he makes up.
const (
	parallel  = 4 // reviews under way
	perSecond = 5 // reviews of tokens that are not known to be good
	burst     = 10
	mostYes   = 64
	mostNo    = 256
	longest   = 8 << 10         // token, in bytes
	patience  = 3 * time.Second // of a request with its review; Prometheus waits 10 s
)

// warnAgain is how often the log tells that there are no answers.
const warnAgain = time.Minute

// Reviewer is the API server, such as a kube.Client.
type Reviewer interface {
	// MayGet says whose a token is, and whether they may get a path. An error means that there is no answer.
	MayGet(ctx context.Context, token, path string) (kube.Review, error)
}

// Guard asks a Reviewer and remembers what it said. It is safe for use by many goroutines.
type Guard struct {
	reviewer Reviewer
	log      *slog.Logger
	yes, no  *answers
	flights  singleflight.Group
	slots    chan struct{}
	strange  *rate.Limiter
	warn     *rate.Sometimes
}

// New makes a Guard.
func New(reviewer Reviewer, log *slog.Logger) *Guard {
	return &Guard{
		reviewer: reviewer, log: log, yes: newAnswers(mostYes), no: newAnswers(mostNo),
		slots: make(chan struct{}, parallel), strange: rate.NewLimiter(perSecond, burst), warn: &rate.Sometimes{Interval: warnAgain},
	}
}

// Handler passes on the requests whose sender may get their path. Others are answered with 401, 403 or 503 and a text that says what to do.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := bearer(r)
		if !ok {
			unknown(w, "no bearer token: send \"Authorization: Bearer TOKEN\" with the token of a ServiceAccount that may get "+r.URL.Path)
			return
		}
		access, err := g.ask(r.Context(), token, r.URL.Path)
		switch {
		case err != nil:
			g.warn.Do(func() {
				g.log.Warn("refused a request, as it is not known who sent it", "path", r.URL.Path, "remote", r.RemoteAddr, "err", err)
			})
			w.Header().Set("Retry-After", "5")
			http.Error(w, "cannot ask the API server now whose this token is and what they may do; see the log of this pod", http.StatusServiceUnavailable)
		case access.User == "":
			unknown(w, because("the API server does not know this token", access.Reason))
		case !access.Allowed:
			text := fmt.Sprintf("%s may not get %s: bind a ClusterRole to it that has this path in nonResourceURLs; Herald's chart brings one, *-metrics-reader", access.User, r.URL.Path)
			http.Error(w, because(text, access.Reason), http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// bearer returns the token that comes with a request (RFC 6750, section 2.1).
func bearer(r *http.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "bearer") && token != "" && len(token) <= longest
}

func unknown(w http.ResponseWriter, text string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="herald"`)
	http.Error(w, text, http.StatusUnauthorized)
}

func because(text, reason string) string {
	if reason == "" {
		return text
	}
	return text + " (" + reason + ")"
}

// key stands for a question. The token itself is not kept.
func key(token, path string) string {
	sum := sha256.Sum256([]byte(path + " " + token))
	return string(sum[:])
}

// ask returns what the API server says, or said a short time ago.
func (g *Guard) ask(ctx context.Context, token, path string) (kube.Review, error) {
	k := key(token, path)
	if access, ok := g.yes.get(k, yesFresh); ok {
		return access, nil
	}
	if access, ok := g.no.get(k, noFresh); ok {
		return access, nil
	}
	held, known := g.yes.get(k, yesHolds)
	if !known && !g.strange.Allow() {
		return kube.Review{}, errors.New("too many unknown tokens")
	}
	// Shared by those who ask the same at the same time, so that it does not end with the first of them.
	access, err, _ := g.flights.Do(k, func() (any, error) { return g.review(context.WithoutCancel(ctx), k, token, path) })
	if err != nil && known {
		return held, nil
	}
	if err != nil {
		return kube.Review{}, err
	}
	return access.(kube.Review), nil
}

// review asks and remembers the answer.
func (g *Guard) review(ctx context.Context, k, token, path string) (kube.Review, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return kube.Review{}, errors.New("too many reviews are under way")
	}
	access, err := g.reviewer.MayGet(ctx, token, path)
	switch {
	case err != nil:
		return kube.Review{}, err
	case access.User != "" && access.Allowed:
		g.yes.put(k, access)
	default:
		g.yes.drop(k)
		g.no.put(k, access)
	}
	return access, nil
}
