package speaker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/config/keep"
	"github.com/heraldlb/herald/speaker/decide"
)

const (
	claimsFile   = "claims"
	claimsFormat = "herald claims 1"
	claimsEvery  = 2 * time.Second // least time between two writes
)

// ClaimFile keeps the own claims in a file, for a node whose speaker restarts while it hears no other: then nobody else can tell. It is a
// Keeper.
type ClaimFile struct {
	path   string
	log    *slog.Logger
	latest atomic.Pointer[map[netip.Addr]decide.Claim]
	poked  chan struct{}
}

// NewClaimFile returns a ClaimFile in a directory that is there. It writes nothing until Run.
func NewClaimFile(dir string, log *slog.Logger) *ClaimFile {
	return &ClaimFile{path: filepath.Join(dir, claimsFile), log: log, poked: make(chan struct{}, 1)}
}

// Claims returns what was kept; nil when nothing was, or it is damaged.
func (f *ClaimFile) Claims() map[netip.Addr]decide.Claim {
	var claims map[netip.Addr]decide.Claim
	err := keep.Read(f.path, claimsFormat, func(r io.Reader) error { return json.NewDecoder(r).Decode(&claims) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Warn("the claims of the last run are not used", "error", err)
		return nil
	}
	return claims
}

// Keep takes the claims that are to be kept. It never blocks.
func (f *ClaimFile) Keep(claims map[netip.Addr]decide.Claim) {
	f.latest.Store(&claims)
	select {
	case f.poked <- struct{}{}:
	default:
	}
}

// Run writes at a bounded rate until ctx ends, and then once more.
func (f *ClaimFile) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			if len(f.poked) > 0 {
				f.write()
			}
			return nil
		case <-f.poked:
		}
		f.write()
		select {
		case <-ctx.Done():
		case <-time.After(claimsEvery):
		}
	}
}

func (f *ClaimFile) write() {
	claims := *f.latest.Load() // stored before the poke
	err := keep.Write(f.path, claimsFormat, func(w io.Writer) error { return json.NewEncoder(w).Encode(claims) })
	if err != nil {
		f.log.Warn("the claims cannot be kept for a restart", "error", err)
	}
}
