package parse

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// allocation is a pool's serviceAllocation: which Services may have its addresses.
type allocation struct {
	priority   int
	namespaces map[string]bool
	inside     selectors // of namespaces
	services   selectors
	text       string // for people
}

func parseAllocation(in *v1beta1.ServiceAllocation) (*allocation, []config.Problem) {
	a := &allocation{priority: int(in.Priority), namespaces: make(map[string]bool, len(in.Namespaces))}
	for _, name := range in.Namespaces {
		a.namespaces[name] = true
	}
	var inside, services []config.Problem
	a.inside, inside = parseSelectors("spec.serviceAllocation.namespaceSelectors", in.NamespaceSelectors)
	a.services, services = parseSelectors("spec.serviceAllocation.serviceSelectors", in.ServiceSelectors)
	a.text = a.describe()
	return a, slices.Concat(inside, services)
}

// describe says whom the allocation admits, as in "admits only ...".
func (a *allocation) describe() string {
	var where []string
	if names := slices.Sorted(maps.Keys(a.namespaces)); len(names) == 1 {
		where = append(where, "namespace "+names[0])
	} else if len(names) > 1 {
		where = append(where, "namespaces "+few(names))
	}
	if text := a.inside.describe(); text != "" {
		where = append(where, "namespaces matching "+text)
	}
	what := a.services.describe()
	switch {
	case what == "" && where == nil:
		return "Services of any kind"
	case what == "":
		return strings.Join(where, " and ")
	case where == nil:
		return "Services matching " + what
	}
	return "Services matching " + what + " in " + strings.Join(where, " and ")
}

// describe writes the selectors as kubectl's --selector takes them; "" when there are none.
func (s *selectors) describe() string {
	texts := make([]string, len(s.list))
	for i, one := range s.list {
		texts[i] = one.String()
		if one.Empty() {
			texts[i] = "anything"
		}
	}
	if len(texts) > 3 {
		texts = append(texts[:3], fmt.Sprintf("%d more selectors", len(s.list)-3))
	}
	return strings.Join(texts, " or ")
}

// anywhere reports whether the allocation leaves namespaces open.
func (a *allocation) anywhere() bool { return len(a.namespaces) == 0 && len(a.inside.list) == 0 }

func (a *allocation) admitsNamespace(name string, of labels.Set) bool {
	return a.anywhere() || a.namespaces[name] || a.inside.matches(of)
}

func (a *allocation) admitsService(of labels.Set) bool {
	return len(a.services.list) == 0 || a.services.matches(of)
}

// poolScope is a pool in force with its allocation.
type poolScope struct {
	name string
	*allocation
}

// admission answers which of the pools with a serviceAllocation admit a Service. Answers are kept: a Service is asked about again when
// it, its namespace or one of the allocations has changed.
type admission struct {
	scopes     []poolScope // in the order in which a Service tries them
	epoch      uint64      // counts changes of scopes
	askLabels  bool        // some scope asks for labels of namespaces
	version    uint64      // counts changes of scopes and namespaces
	count      uint64      // stamps given so far
	namespaces map[string]*namespaceEntry
}

// namespaceEntry is a namespace with what it answers for all its Services.
type namespaceEntry struct {
	known   bool // the namespace has been seen
	version string
	labels  labels.Set

	epoch uint64      // of the scopes that are answered below; 0 before the first answer
	stamp uint64      // changes with the answer
	open  []poolScope // those that admit the namespace
	names []string    // theirs
	each  bool        // some of them ask for labels of Services
}

func newAdmission() admission {
	return admission{namespaces: make(map[string]*namespaceEntry)}
}

// setNamespaces takes in namespaces, all or those that changed.
func (a *admission) setNamespaces(objs []*metav1.PartialObjectMetadata, c Changes) {
	for _, key := range c.GoneNamespaces {
		a.forget(key.Name)
	}
	for _, o := range objs {
		a.setNamespace(o)
	}
	if c.Namespaces {
		return
	}
	seen := make(map[string]bool, len(objs))
	for _, o := range objs {
		seen[o.Name] = true
	}
	for name, e := range a.namespaces {
		if e.known && !seen[name] {
			a.forget(name)
		}
	}
}

func (a *admission) setNamespace(o *metav1.PartialObjectMetadata) {
	e := a.namespaces[o.Name]
	if e == nil {
		e = &namespaceEntry{}
		a.namespaces[o.Name] = e
	}
	if e.known && e.version == o.ResourceVersion && e.version != "" {
		return
	}
	if !e.known || !maps.Equal(e.labels, o.Labels) {
		e.labels, e.epoch = maps.Clone(o.Labels), 0
		a.version++
	}
	e.known, e.version = true, o.ResourceVersion
}

// forget drops a namespace.
func (a *admission) forget(name string) {
	delete(a.namespaces, name)
	a.version++
}

// forgetUnknown drops what is remembered of namespaces that have not been seen, which may not have Services any more either.
func (a *admission) forgetUnknown() {
	maps.DeleteFunc(a.namespaces, func(_ string, e *namespaceEntry) bool { return !e.known })
}

// setScopes takes in the allocations of all pools in force.
func (a *admission) setScopes(scopes []poolScope) {
	slices.SortFunc(scopes, func(a, b poolScope) int {
		return cmp.Or(cmp.Compare(rank(a.priority), rank(b.priority)), strings.Compare(a.name, b.name))
	})
	if a.epoch > 0 && slices.Equal(a.scopes, scopes) {
		return
	}
	a.scopes = scopes
	a.epoch++
	a.version++
	a.askLabels = slices.ContainsFunc(scopes, func(s poolScope) bool { return len(s.inside.list) > 0 })
}

// rank orders priorities: 0 is last.
func rank(priority int) int {
	if priority == 0 {
		return math.MaxInt
	}
	return priority
}

// namespace returns the entry of a namespace, answered.
func (a *admission) namespace(name string) *namespaceEntry {
	e := a.namespaces[name]
	if e == nil {
		e = &namespaceEntry{}
		a.namespaces[name] = e
	}
	if e.epoch == a.epoch {
		return e
	}
	var open []poolScope
	var names []string
	each := false
	for _, s := range a.scopes {
		if s.admitsNamespace(name, e.labels) {
			open, names = append(open, s), append(names, s.name)
			each = each || len(s.services.list) > 0
		}
	}
	if e.stamp == 0 || !slices.Equal(open, e.open) {
		a.count++
		e.stamp = a.count
	}
	e.epoch, e.open, e.names, e.each = a.epoch, open, names, each
	return e
}

// admits returns the pools that admit a Service of the namespace with these labels. As far as possible it is one value for all.
func (e *namespaceEntry) admits(of labels.Set) []string {
	if !e.each {
		return e.names
	}
	var names []string
	for _, s := range e.open {
		if s.admitsService(of) {
			names = append(names, s.name)
		}
	}
	if slices.Equal(names, e.names) {
		return e.names
	}
	return names
}

// admit answers for all Services whose answer may be another than before. One that is makes a new value of the Service.
func (s *services) admit(a *admission) {
	ask := s.unasked
	if s.answered != a.version {
		ask, s.answered = s.sorted, a.version
		a.forgetUnknown()
	}
	var ns *namespaceEntry
	var waiting bool
	at := ""
	for i, e := range ask {
		if !e.ours {
			continue // it was taken out again
		}
		if i == 0 || e.key.Namespace != at {
			at = e.key.Namespace
			ns = a.namespace(at)
			waiting = !ns.known && a.askLabels
		}
		names := e.service.Admitted
		if e.asked != ns || e.stamp != ns.stamp {
			e.asked, e.stamp = ns, ns.stamp
			names = ns.admits(e.labels)
		}
		if waiting != e.service.Waiting || !slices.Equal(names, e.service.Admitted) {
			next := *e.service
			next.Admitted, next.Waiting = names, waiting
			s.set(e, &next)
		}
	}
}
