package parse

import (
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/config"
)

// relabels names the Services that came, went or changed their labels, in the order in which they did, so that an answer of selectors is
// mended where it may have changed. One may be named twice.
type relabels struct {
	before uint64 // how many are forgotten
	keys   []config.Key
}

// maxRelabels bounds how many are remembered. Answers from before that are worked out anew.
const maxRelabels = 256

func (r *relabels) add(key config.Key) {
	if len(r.keys) == maxRelabels {
		r.before, r.keys = r.epoch(), nil
	}
	r.keys = append(r.keys, key)
}

// epoch counts all there were.
func (r *relabels) epoch() uint64 { return r.before + uint64(len(r.keys)) }

// since returns those after an epoch; false when they are forgotten.
func (r *relabels) since(epoch uint64) ([]config.Key, bool) {
	if epoch < r.before {
		return nil, false
	}
	return r.keys[epoch-r.before:], true
}

// each calls yield for every Service that is ours.
func (s *services) each(yield func(config.Key, labels.Set)) {
	for _, e := range s.sorted {
		yield(e.key, e.labels)
	}
}

// selected answers selectors: from the answer before where that is possible.
func (s *services) selected(sel *selectors, m *memo[config.Key]) config.Selection[config.Key] {
	keys, known := s.relabels.since(m.epoch)
	if sel.all || len(sel.list) == 0 || !known {
		return answers(sel, m, s.relabels.epoch(), s.each)
	}
	var more, less []config.Key
	for _, key := range keys {
		e := s.byKey[key]
		switch is := e != nil && e.ours && sel.matches(e.labels); {
		case is && !m.answer.Has(key):
			more = append(more, key)
		case !is && m.answer.Has(key):
			less = append(less, key)
		}
	}
	*m = memo[config.Key]{s.relabels.epoch(), m.answer.Change(more, less)}
	return m.answer
}
