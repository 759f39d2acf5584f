package parse

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// selectors is a list of label selectors, any of which may match. One that selects everything makes the list nil with all set.
type selectors struct {
	all  bool
	list []labels.Selector
}

func (s *selectors) matches(of labels.Set) bool {
	return s.all || slices.ContainsFunc(s.list, func(one labels.Selector) bool { return one.Matches(of) })
}

func (s *selectors) add(one labels.Selector) {
	s.all = s.all || one.Empty()
	s.list = append(s.list, one)
}

// parseSelectors parses the selectors at field. An empty list selects nothing here: what that means is for the caller.
func parseSelectors(field string, in []v1beta1.LabelSelector) (selectors, []config.Problem) {
	var out selectors
	var problems []config.Problem
	for i, raw := range in {
		one, err := parseSelector(raw)
		if err != nil {
			problems = append(problems, config.Problem{
				Field: fmt.Sprintf("%s[%d]", field, i), Reason: InvalidSelector, Message: "not a label selector: " + err.Error(),
			})
			continue
		}
		out.add(one)
	}
	return out, problems
}

func parseSelector(raw v1beta1.LabelSelector) (labels.Selector, error) {
	sel := labels.NewSelector()
	for _, key := range slices.Sorted(maps.Keys(raw.MatchLabels)) {
		r, err := labels.NewRequirement(key, selection.Equals, []string{string(raw.MatchLabels[key])})
		if err != nil {
			return nil, err
		}
		sel = sel.Add(*r)
	}
	for _, e := range raw.MatchExpressions {
		op, err := operator(e.Operator)
		if err != nil {
			return nil, err
		}
		values := make([]string, len(e.Values))
		for i, v := range e.Values {
			values[i] = string(v)
		}
		r, err := labels.NewRequirement(e.Key, op, values)
		if err != nil {
			return nil, err
		}
		sel = sel.Add(*r)
	}
	return sel, nil
}

func operator(op metav1.LabelSelectorOperator) (selection.Operator, error) {
	switch op {
	case metav1.LabelSelectorOpIn:
		return selection.In, nil
	case metav1.LabelSelectorOpNotIn:
		return selection.NotIn, nil
	case metav1.LabelSelectorOpExists:
		return selection.Exists, nil
	case metav1.LabelSelectorOpDoesNotExist:
		return selection.DoesNotExist, nil
	}
	return "", fmt.Errorf("%q is not an operator; give In, NotIn, Exists or DoesNotExist", op)
}

// memo keeps the answer of a list of selectors while the labels they ask about stay the same.
type memo[K comparable] struct {
	epoch  uint64 // of the labels; 0 before the first answer
	answer config.Selection[K]
}

// answers returns what selectors select among the labelled things. No selectors select all.
func answers[K comparable](s *selectors, m *memo[K], epoch uint64, each func(yield func(K, labels.Set))) config.Selection[K] {
	if s.all || len(s.list) == 0 {
		return config.All[K]()
	}
	if m.epoch == epoch {
		return m.answer
	}
	var keys []K
	each(func(k K, set labels.Set) {
		if s.matches(set) {
			keys = append(keys, k)
		}
	})
	*m = memo[K]{epoch, config.Only(keys...)}
	return m.answer
}

// nodeSelection is a list of node selectors with its answer.
type nodeSelection struct {
	selectors
	memo memo[string]
}

func (w *world) selectNodes(s *nodeSelection) config.Selection[string] {
	return answers(&s.selectors, &s.memo, w.memory.nodes.epoch, w.memory.nodes.each)
}

// serviceSelection is a list of Service selectors with its answer.
type serviceSelection struct {
	selectors
	memo memo[config.Key]
}

func (w *world) selectServices(s *serviceSelection) config.Selection[config.Key] {
	return w.services.selected(&s.selectors, &s.memo)
}
