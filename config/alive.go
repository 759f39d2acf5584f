package config

import "slices"

// LiveSpeakers returns the nodes whose speakers are taken to be alive, as far as the speakers' reports tell. Reports are written when something
// changes, and that of a dead speaker stands, so it is the others who tell: a speaker whom most of those miss who are not missed themselves
// is dead, and one whose node is not Ready lives as long as they see as many alive as there would be with it. Whether the node is Ready only
// counts where nobody says more. Those that have missed each other say nothing of one another: each went on writing.
func (s *Snapshot) LiveSpeakers() map[string]bool {
	ready := make(map[string]bool, len(s.Nodes))
	for _, n := range s.Nodes {
		ready[n.Name] = n.Ready
	}
	var there []*Speaker
	for _, sp := range s.Speakers {
		if _, known := ready[sp.Node]; known && !sp.Stopped {
			there = append(there, sp)
		}
	}
	w := newWitnesses(there)
	left := 0 // how many there are that are not missed
	live := make(map[string]bool, len(there))
	var doubtful []*Speaker
	for _, sp := range there {
		if w.miss(sp) {
			continue
		}
		left++
		if ready[sp.Node] {
			live[sp.Node] = true
			continue
		}
		doubtful = append(doubtful, sp)
	}
	if w.seen(ready) >= left {
		for _, sp := range doubtful {
			live[sp.Node] = true
		}
	}
	return live
}

// witnesses are speakers whose word on others counts.
type witnesses struct {
	by   map[string]*Speaker
	lost map[string]int // by node: how many miss its speaker
}

// newWitnesses takes the speakers that hear others and are not missed by anybody. In a split everybody is missed; then all are taken.
func newWitnesses(all []*Speaker) *witnesses {
	lost := map[string]bool{}
	for _, sp := range all {
		for _, name := range sp.Missing {
			lost[name] = true
		}
	}
	w := &witnesses{by: map[string]*Speaker{}, lost: map[string]int{}}
	w.take(all, func(node string) bool { return !lost[node] })
	if len(w.by) == 0 {
		w.take(all, func(string) bool { return true })
	}
	return w
}

func (w *witnesses) take(all []*Speaker, which func(node string) bool) {
	for _, sp := range all {
		if sp.Alive == 0 || !which(sp.Node) {
			continue
		}
		w.by[sp.Node] = sp
		for _, name := range sp.Missing {
			w.lost[name]++
		}
	}
}

// miss reports whether more of the witnesses miss a speaker than do not.
func (w *witnesses) miss(sp *Speaker) bool {
	against, without := w.lost[sp.Node], len(w.by)-w.lost[sp.Node]
	if w.by[sp.Node] != nil {
		without-- // of itself nobody is a witness
	}
	for _, name := range sp.Missing {
		if other := w.by[name]; other != nil && slices.Contains(other.Missing, sp.Node) {
			against--
		}
	}
	return against > without
}

// seen returns the most speakers that one of the witnesses sees alive. One whose node is not Ready may have said so long ago; it is only asked
// when there is no other.
func (w *witnesses) seen(ready map[string]bool) int {
	sure, doubtful := 0, 0
	for node, sp := range w.by {
		if ready[node] {
			sure = max(sure, sp.Alive)
		}
		doubtful = max(doubtful, sp.Alive)
	}
	if sure > 0 {
		return sure
	}
	return doubtful
}
