package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/keep"
)

// A Source that has a directory keeps the objects it last read there, so that a process that starts while the API server is away need not
// start from nothing. What comes from there counts, resource by resource, until the API server has listed the resource.

const (
	stateFile   = "objects"
	stateFormat = "herald objects 1"

	passwordTable = "passwords" // the one that a speaker does without when it may not read it

	stateEvery = 10 * time.Second // least time between two writes
	stateShare = 50               // and a write that takes long is followed by so many times as long without one: 2 % of a core at most
	stateWait  = time.Second      // that the API server is given before the file is used
)

// stored is a table as the file sees it.
type stored interface {
	hasSynced() bool
	listed() bool // by the API server, not from the file
	each(keep func(metav1.Object) bool, f func(any) error) error
	restore([]json.RawMessage) error
}

// stateHeader begins the file.
type stateHeader struct {
	Written time.Time `json:"written"`
}

// stateLine is one object as it is read back, or, without one, says that the resource was listed.
type stateLine struct {
	Resource string          `json:"r"`
	Object   json.RawMessage `json:"o,omitempty"`
}

// writtenLine is a stateLine as it is written.
type writtenLine struct {
	Resource string `json:"r"`
	Object   any    `json:"o,omitempty"`
}

// stateTables are the tables that go into a speaker's Snapshot, Seeds and GossipKey, by what the file calls them.
func (s *Source) stateTables() map[string]stored {
	return map[string]stored{
		"services":          s.services,
		"endpointslices":    s.slices,
		"nodes":             s.nodes,
		"ipaddresspools":    s.pools,
		"l2advertisements":  s.l2Adverts,
		"bgppeers":          s.peers,
		"bgpadvertisements": s.bgpAdverts,
		"bfdprofiles":       s.bfdProfiles,
		"communities":       s.communities,
		passwordTable:       s.passwords,
		"secrets":           s.secrets,
	}
}

// Stale tells of when Snapshot is while some of it comes from the disk; zero when it does not.
func (s *Source) Stale() time.Time {
	at := s.restored.Load()
	if at == nil {
		return time.Time{}
	}
	for resource, t := range s.stateTables() {
		if t.hasSynced() && !t.listed() && (resource != passwordTable || !s.unsigned.Load()) {
			return *at
		}
	}
	return time.Time{}
}

// keepState restores what the file holds when the API server does not answer soon, and keeps the file up to date, until ctx ends. What comes
// after its last write is for lastState.
func (s *Source) keepState(ctx context.Context) {
	if s.opts.StateDir == "" {
		return
	}
	path := filepath.Join(s.opts.StateDir, stateFile)
	s.awaitList(ctx)
	if ctx.Err() == nil && !s.synced() {
		s.restoreState(path)
	}
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.unsaved:
		}
		if !s.complete() { // the rest of a list is on its way and will say so
			continue
		}
		began := time.Now()
		told = s.tryState(path, told)
		select {
		case <-ctx.Done():
		case <-time.After(statePause(time.Since(began))):
		}
	}
}

// lastState keeps what has come since keepState kept something. It is called when nothing comes any more.
func (s *Source) lastState() {
	if s.opts.StateDir != "" && len(s.unsaved) > 0 && s.complete() {
		s.tryState(filepath.Join(s.opts.StateDir, stateFile), "")
	}
}

// tryState writes the file. A failure is logged unless it is the one that was told last, and becomes that.
func (s *Source) tryState(path, told string) string {
	err := s.saveState(path)
	if err == nil || err.Error() == told {
		return told
	}
	s.opts.Log.Warn("what the API server said cannot be kept for a restart while it is away", "error", err)
	return err.Error()
}

// statePause is how long to rest after a write that took so long.
func statePause(took time.Duration) time.Duration { return max(stateEvery, stateShare*took) }

// stateKeeps reports whether an object is needed from the disk: of all EndpointSlices of the cluster, those of the Services that are announced,
// and of the speakers.
func (s *Source) stateKeeps(o metav1.Object) bool {
	slice, ok := o.(*discoveryv1.EndpointSlice)
	if !ok || s.isGossip(slice) {
		return true
	}
	_, ok = s.services.get(config.Key{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]})
	return ok
}

// awaitList waits until everything is listed, but not long.
func (s *Source) awaitList(ctx context.Context) {
	end := time.After(stateWait)
	tick := time.NewTicker(stateWait / 20)
	defer tick.Stop()
	for !s.synced() {
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-tick.C:
		}
	}
}

// complete reports whether the API server has listed everything that goes into the file's Snapshot.
func (s *Source) complete() bool { return s.synced() && s.Stale().IsZero() }

func (s *Source) saveState(path string) error {
	return keep.Write(path, stateFormat, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		if err := enc.Encode(stateHeader{Written: time.Now()}); err != nil {
			return err
		}
		for resource, t := range s.stateTables() {
			if !t.listed() {
				continue
			}
			if err := enc.Encode(writtenLine{Resource: resource}); err != nil {
				return err
			}
			err := t.each(s.stateKeeps, func(o any) error { return enc.Encode(writtenLine{Resource: resource, Object: o}) })
			if err != nil {
				return fmt.Errorf("%s: %w", resource, err)
			}
		}
		return nil
	})
}

// restoreState fills those tables that the API server has not listed.
func (s *Source) restoreState(path string) {
	header, objects, err := readState(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		s.opts.Log.Warn("what was kept of the last run is not used", "error", err)
		return
	}
	tables := s.stateTables()
	if _, ok := objects[passwordTable]; !ok {
		objects[passwordTable] = nil // the last run was not allowed to read them either, and did without
	}
	for resource, list := range objects {
		t, ok := tables[resource]
		if !ok {
			continue
		}
		if err := t.restore(list); err != nil {
			s.opts.Log.Warn("what was kept of the last run is not used", "resource", resource, "error", err)
		}
	}
	s.restored.Store(&header.Written)
	s.opts.Log.Warn("the API server does not answer: starting from what it said to the last run", "written", header.Written)
	s.touch()
}

func readState(path string) (stateHeader, map[string][]json.RawMessage, error) {
	var header stateHeader
	objects := map[string][]json.RawMessage{}
	err := keep.Read(path, stateFormat, func(r io.Reader) error {
		dec := json.NewDecoder(r)
		if err := dec.Decode(&header); err != nil {
			return err
		}
		for {
			var line stateLine
			err := dec.Decode(&line)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			list := objects[line.Resource]
			if line.Object != nil {
				list = append(list, line.Object)
			}
			objects[line.Resource] = list
		}
	})
	return header, objects, err
}

// listed reports whether the API server has listed the resource.
func (t *table[T]) listed() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.synced
}

// each calls f for every object that is to be kept, in no order, until it fails.
func (t *table[T]) each(keep func(metav1.Object) bool, f func(any) error) error {
	for _, o := range t.list() {
		if !keep(o) {
			continue
		}
		if err := f(o); err != nil {
			return err
		}
	}
	return nil
}

// restore fills the table with what was kept of it, unless the API server has listed it meanwhile. Objects that it has sent since stay.
func (t *table[T]) restore(raw []json.RawMessage) error {
	objs := make([]T, 0, len(raw))
	for _, r := range raw {
		var o T
		if err := json.Unmarshal(r, &o); err != nil {
			return err
		}
		objs = append(objs, o)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.synced {
		return nil
	}
	for _, o := range objs {
		if _, ok := t.items[keyOf(o)]; !ok {
			t.store(o)
		}
	}
	t.restored, t.steps = true, false
	return nil
}
