package parse

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
)

// kind remembers the objects of one kind, whose specs are of type S once parsed.
type kind[S any] struct {
	drafts map[string]*draft[S]
}

func newKind[S any]() kind[S] { return kind[S]{drafts: make(map[string]*draft[S])} }

// draft is what the spec of one object says by itself.
type draft[S any] struct {
	id, version string
	name        string
	created     time.Time
	spec        *S               // nil when the object is bad
	problems    []config.Problem // of the object by itself
	good        *S               // last version that was in force; nil when there was none

	resolved any // what was last made of it, for reuse while it is equal
}

// update parses the objects that are new or changed, drops what is gone, and returns all by age: of two in conflict the first stays.
func update[S any, O metav1.Object](k *kind[S], objs []O, parse func(O) (S, []config.Problem)) []*draft[S] {
	next := make(map[string]*draft[S], len(objs))
	var drafts []*draft[S]
	for _, o := range objs {
		id := identity(o)
		d := k.drafts[id]
		if version := specVersion(o); d == nil || d.version != version || version == "" {
			d = renew(d, id, version, o, parse)
		}
		next[id] = d
		drafts = append(drafts, d)
	}
	k.drafts = next
	slices.SortFunc(drafts, func(a, b *draft[S]) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.name, b.name))
	})
	return drafts
}

func renew[S any, O metav1.Object](old *draft[S], id, version string, o O, parse func(O) (S, []config.Problem)) *draft[S] {
	d := &draft[S]{id: id, version: version, name: o.GetName(), created: o.GetCreationTimestamp().Time}
	if old != nil {
		d.good, d.resolved = old.good, old.resolved
	}
	spec, problems := parse(o)
	d.problems = problems
	if !slices.ContainsFunc(problems, func(p config.Problem) bool { return !p.Warning }) {
		d.spec = &spec
	}
	return d
}

// specVersion changes with the spec: the API server counts generations for that. Writing a status leaves it alone.
func specVersion(o metav1.Object) string {
	if g := o.GetGeneration(); g > 0 {
		return "g" + strconv.FormatInt(g, 10)
	}
	return o.GetResourceVersion()
}

// settle chooses which version of an object is in force: the present one, else the last good one, else none. fits says what keeps a
// version out; nil means nothing does.
func settle[S any](w *world, ref config.Ref, d *draft[S], fits func(*S) *config.Problem) *S {
	problems := slices.Clone(d.problems)
	if d.spec != nil {
		p := fits(d.spec)
		if p == nil {
			d.good = d.spec
			w.report(ref, problems, false)
			return d.spec
		}
		problems = append(problems, *p)
	}
	last := d.good
	if last == d.spec || last != nil && fits(last) != nil {
		last = nil
	}
	w.report(ref, problems, last != nil)
	return last
}

// report adds problems of an object. Those that keep its present version out say whether an earlier one stays in force.
func (w *world) report(ref config.Ref, problems []config.Problem, lastGood bool) {
	for _, p := range problems {
		p.Ref = ref
		p.LastGood = lastGood && !p.Warning
		if p.LastGood {
			p.Message += "; what was in force before stays in force"
		}
		w.problems = append(w.problems, p)
	}
}

func always[S any](*S) *config.Problem { return nil }

func compareProblems(a, b config.Problem) int {
	return cmp.Or(a.Compare(b.Ref), strings.Compare(a.Field, b.Field), strings.Compare(a.Reason, b.Reason), strings.Compare(a.Message, b.Message))
}

// reuse returns what was made of the draft last time if it is equal, so that equal parts of two snapshots are one value.
func reuse[S, T any](d *draft[S], next *T, equal func(a, b *T) bool) *T {
	if last, ok := d.resolved.(*T); ok && equal(last, next) {
		return last
	}
	d.resolved = next
	return next
}
