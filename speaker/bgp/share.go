package bgp

import (
	"slices"

	"github.com/heraldlb/herald/speaker/decide"
)

// shares works out what each peer is told of the routes, again and again. What is made of a page of routes serves all peers that are told alike.
type shares struct {
	pages memory[decide.Route, *share]
	plain [][]Path // the last list that had to be merged,
	merge [][]Path // and what became of it
}

// share is what is told of a page of routes.
type share struct {
	page  []decide.Route
	all   bool              // every route goes to the same peers,
	peers []string          // which are these
	paths []Path            // told to each of them
	by    map[string][]Path // else: by peer
}

// take takes in the routes to tell of.
func (s *shares) take(routes [][]decide.Route) { s.pages.update(routes, newShare) }

// paths returns what the named peer should be told, in pages, sorted by prefix. What several routes say of one prefix adds up.
func (s *shares) paths(peer string) [][]Path {
	out := make([][]Path, 0, len(s.pages.made))
	inOrder := true
	for _, x := range s.pages.made {
		paths := x.to(peer)
		if len(paths) == 0 {
			continue
		}
		if n := len(out); n > 0 && comparePrefix(out[n-1][len(out[n-1])-1].Prefix, paths[0].Prefix) >= 0 {
			inOrder = false
		}
		out = append(out, paths)
	}
	if inOrder {
		return out
	}
	if !samePages(s.plain, out) {
		s.plain, s.merge = out, [][]Path{merged(slices.Concat(out...))}
	}
	return s.merge
}

func newShare(page []decide.Route) *share {
	if len(page) == 0 {
		return &share{all: true}
	}
	x := &share{page: page, peers: page[0].Peers}
	x.all = !slices.ContainsFunc(page, func(r decide.Route) bool { return !slices.Equal(r.Peers, x.peers) })
	if x.all {
		x.paths = pathsOf(page, func(*decide.Route) bool { return true })
	}
	return x
}

// to returns what a peer is told of the page.
func (x *share) to(peer string) []Path {
	if x.all {
		if _, in := slices.BinarySearch(x.peers, peer); in {
			return x.paths
		}
		return nil
	}
	paths, ok := x.by[peer]
	if !ok {
		paths = pathsOf(x.page, func(r *decide.Route) bool { _, in := slices.BinarySearch(r.Peers, peer); return in })
		if x.by == nil {
			x.by = map[string][]Path{}
		}
		x.by[peer] = paths
	}
	return paths
}

// pathsOf returns those of the routes that are told, as paths.
func pathsOf(routes []decide.Route, told func(*decide.Route) bool) []Path {
	out := make([]Path, 0, len(routes))
	for i := range routes {
		if r := &routes[i]; told(r) {
			out = append(out, Path{Prefix: r.Prefix.Masked(), RouteAttributes: r.Attributes})
		}
	}
	return merged(out)
}

// merged sorts paths by prefix and adds up what is said of one, in place.
func merged(paths []Path) []Path {
	byPrefix := func(a, b Path) int { return comparePrefix(a.Prefix, b.Prefix) }
	if !slices.IsSortedFunc(paths, byPrefix) {
		slices.SortStableFunc(paths, byPrefix)
	}
	out := paths[:0]
	for _, p := range paths {
		if n := len(out); n > 0 && out[n-1].Prefix == p.Prefix {
			out[n-1].RouteAttributes = out[n-1].Merge(p.RouteAttributes)
		} else {
			out = append(out, p)
		}
	}
	return out
}
