package parse

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
)

// seen is what a source of changes knows of one kind: the version of each object as it was told last.
type seen map[config.Key]string

// changes returns those of the objects that are not as they were told last, and those that are gone.
func changes[O metav1.Object](s seen, objs []O) (came []O, gone []config.Key) {
	now := make(seen, len(objs))
	for _, o := range objs {
		key := config.Key{Namespace: o.GetNamespace(), Name: o.GetName()}
		now[key] = string(o.GetUID()) + "/" + o.GetResourceVersion()
		if s[key] != now[key] {
			came = append(came, o)
		}
	}
	for key := range s {
		if now[key] == "" {
			gone = append(gone, key)
		}
	}
	clear(s)
	maps.Copy(s, now)
	return came, gone
}

// TestChanges: along random histories, what is parsed from what changed equals what is parsed from whole lists, and values of what did not
// change stay the same. Now and then one of the lists is whole, as after a watch began anew.
func TestChanges(t *testing.T) {
	for seed := range uint64(30) {
		c := &cluster{r: rand.New(rand.NewPCG(seed, 8))}
		services, slicesOf, namespaces := seen{}, seen{}, seen{}
		var whole, partial Memory
		var last *config.Snapshot
		for step := range 150 {
			for range 1 + c.r.IntN(5) {
				c.step()
			}
			c.objs.Now = time.Unix(int64(step), 0)
			in := c.objs
			in.Services, in.Changes.GoneServices = changes(services, in.Services)
			in.EndpointSlices, in.Changes.GoneEndpointSlices = changes(slicesOf, in.EndpointSlices)
			in.Namespaces, in.Changes.GoneNamespaces = changes(namespaces, in.Namespaces)
			in.Changes.Services, in.Changes.EndpointSlices, in.Changes.Namespaces = true, true, true
			if c.r.IntN(4) == 0 {
				in.Services, in.Changes.Services, in.Changes.GoneServices = c.objs.Services, false, nil
			}
			if c.r.IntN(4) == 0 {
				in.EndpointSlices, in.Changes.EndpointSlices, in.Changes.GoneEndpointSlices = c.objs.EndpointSlices, false, nil
			}
			if c.r.IntN(4) == 0 {
				in.Namespaces, in.Changes.Namespaces, in.Changes.GoneNamespaces = c.objs.Namespaces, false, nil
			}
			var want, got *config.Snapshot
			want, whole = Parse(shuffle(c.objs, c.r), whole)
			got, partial = Parse(in, partial)
			if diff := cmp.Diff(dump(want), dump(got)); diff != "" {
				t.Fatalf("seed %d step %d (-whole +changes):\n%s", seed, step, diff)
			}
			if last != nil {
				sameValues(t, last.Services, got.Services)
			}
			last = got
			nothing := c.objs
			nothing.Services, nothing.EndpointSlices, nothing.Namespaces = nil, nil, nil
			nothing.Changes = Changes{Services: true, EndpointSlices: true, Namespaces: true}
			var again *config.Snapshot
			again, partial = Parse(nothing, partial)
			if len(again.Services) > 0 && &again.Services[0] != &got.Services[0] {
				t.Fatalf("seed %d step %d: nothing changed, and there is another list", seed, step)
			}
		}
	}
}

// sameValues: a Service that says the same is the same value.
func sameValues(t *testing.T, before, after []*config.Service) {
	t.Helper()
	was := make(map[config.Key]*config.Service, len(before))
	for _, s := range before {
		was[s.Key] = s
	}
	for _, s := range after {
		if old := was[s.Key]; old != nil && old != s && fmt.Sprintf("%#v", *old) == fmt.Sprintf("%#v", *s) {
			t.Fatalf("%s says the same and is another value", s.Key)
		}
	}
}

// onlyChanges makes of whole lists what says that nothing changed.
func onlyChanges(in Objects) Objects {
	in.Services, in.EndpointSlices, in.Namespaces = nil, nil, nil
	in.Changes = Changes{Services: true, EndpointSlices: true, Namespaces: true}
	return in
}

func BenchmarkChangeOneOf10k(b *testing.B) {
	in := manyServices(10000)
	_, memory := Parse(in, Memory{})
	one := onlyChanges(in)
	for version := 2; b.Loop(); version++ {
		s := *in.Services[5000]
		s.ResourceVersion = strconv.Itoa(version)
		one.Services = append(one.Services[:0], &s)
		_, memory = Parse(one, memory)
	}
}

func BenchmarkChangeOneMoreThan10k(b *testing.B) {
	in := manyServices(10001)
	last := in.Services[5000]
	in.Services = append(in.Services[:5000:5000], in.Services[5001:]...)
	_, memory := Parse(in, Memory{})
	come, leave := onlyChanges(in), onlyChanges(in)
	come.Services = append(come.Services, last)
	leave.Changes.GoneServices = []config.Key{{Namespace: last.Namespace, Name: last.Name}}
	for b.Loop() {
		_, memory = Parse(come, memory)
		_, memory = Parse(leave, memory)
	}
}

// TestSelectionChanges: a selection that is given out does not change with the next.
func TestSelectionChanges(t *testing.T) {
	in := manyServices(3)
	first, memory := Parse(in, Memory{})
	was := first.L2Advertisements[0].Services
	next := in.Services[1].DeepCopy()
	next.ResourceVersion, next.Labels = "2", map[string]string{"app": "else"}
	one := onlyChanges(in)
	one.Services = append(one.Services, next)
	second, _ := Parse(one, memory)
	key := config.Key{Namespace: "ns", Name: "svc-00001"}
	if now := second.L2Advertisements[0].Services; !was.Has(key) || was.Len() != 1 || now.Has(key) || now.Len() != 0 {
		t.Errorf("selected %v, then %v", was, now)
	}
}
