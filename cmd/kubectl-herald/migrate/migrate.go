// Package migrate makes Herald's objects of those of other load balancers. It knows what each field becomes, and says so of every one: what
// is carried over, what has another form here, and what cannot be carried over and why. It asks nobody: objects in, objects out.
package migrate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/manifest"
)

// Verdict is what becomes of something.
type Verdict string

// The verdicts.
const (
	Carried Verdict = "carried" // as it is
	Changed Verdict = "changed" // in another form that means the same, or nearly
	Todo    Verdict = "to do"   // by the one who migrates
	Lost    Verdict = "lost"    // not carried over
)

// Note says what becomes of one field, or of an object as a whole.
type Note struct {
	Verdict Verdict `json:"verdict"`
	Object  string  `json:"object"`          // kind, namespace and name of what it was
	Field   string  `json:"field,omitempty"` // "" for the whole object
	Message string  `json:"message,omitempty"`

	target string // field that it became, within spec
}

// Object is one of Herald's.
type Object struct {
	Kind   string
	Name   string
	Labels map[string]string
	Spec   map[string]any

	from  string
	notes []Note
}

// Result is what became of all.
type Result struct {
	Objects []*Object
	Notes   []Note // of what became no object
}

// Input is what to migrate.
type Input struct {
	Documents []manifest.Document
	Services  []*corev1.Service // that run

	// Namespaces of the Services. Where one is missing, its Services are taken to be admitted by every pool that they have an address of.
	Namespaces []*metav1.PartialObjectMetadata

	Namespace string // of Herald, for people; "" when it is not known
}

// MetalLB migrates what MetalLB was configured with: its custom resources of all versions, and the ConfigMap of versions before 0.13.
func MetalLB(in Input) *Result {
	m := &migration{namespace: in.Namespace, namespaces: in.Namespaces, result: &Result{}}
	if m.namespace == "" {
		m.namespace = "herald-system"
	}
	for _, d := range in.Documents {
		m.take(d, &in.Services)
	}
	m.communities()
	m.unique()
	m.services(in.Services)
	return m.result
}

// All returns every note, objects in their order.
func (r *Result) All() []Note {
	var out []Note
	for _, o := range r.Objects {
		out = append(out, o.notes...)
	}
	return append(out, r.Notes...)
}

// Whole reports whether nothing was lost.
func (r *Result) Whole() bool {
	return !slices.ContainsFunc(r.All(), func(n Note) bool { return n.Verdict == Lost })
}

// migration is a Result in the making.
type migration struct {
	namespace  string
	namespaces []*metav1.PartialObjectMetadata
	result     *Result
}

// The API groups of MetalLB, and the name and key of its old ConfigMap.
const (
	group     = "metallb.io"
	frrGroup  = "frrk8s.metallb.io"
	oldConfig = "config"
	frrExtras = "bgpextras"
)

// Groups are the API groups of what MetalLB is configured with.
func Groups() []string { return []string{group, frrGroup} }

// ConfigMaps are the names of ConfigMaps in MetalLB's namespace that it is configured with.
func ConfigMaps() []string { return []string{oldConfig, frrExtras} }

// take migrates one document.
func (m *migration) take(d manifest.Document, services *[]*corev1.Service) {
	switch of, _, _ := strings.Cut(d.APIVersion, "/"); {
	case d.Err != nil:
		m.tell(Lost, d.Source, "", "cannot be read: "+d.Err.Error())
	case of == group:
		m.resource(d)
	case of == frrGroup:
		m.tell(Lost, d.Name(), "", "is configuration of FRR beyond MetalLB's own: Herald runs no FRR; what a BGPPeer or BGPAdvertisement can say, say there")
	case d.APIVersion == "v1" && d.Kind == "ConfigMap":
		m.configMap(d)
	case d.APIVersion == "v1" && d.Kind == "Service":
		svc := new(corev1.Service)
		if err := d.Decode(svc); err != nil {
			m.tell(Lost, d.Name(), "", "cannot be read: "+err.Error())
			return
		}
		if svc.Namespace == "" {
			svc.Namespace = corev1.NamespaceDefault
		}
		*services = append(*services, svc)
	default:
		m.tell(Lost, d.Name(), "", "is none of MetalLB's objects ("+d.APIVersion+"); it is left out")
	}
}

// tell notes something that belongs to no object of Herald's.
func (m *migration) tell(v Verdict, object, field, message string) {
	m.result.Notes = append(m.result.Notes, Note{Verdict: v, Object: object, Field: field, Message: message})
}

// resource migrates a custom resource.
func (m *migration) resource(d manifest.Document) {
	var body struct {
		Metadata struct {
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec map[string]any `json:"spec"`
	}
	if err := unmarshal(d.JSON, &body); err != nil {
		m.tell(Lost, d.Name(), "", "cannot be read: "+err.Error())
		return
	}
	rules, ok := kinds()[d.Kind]
	switch {
	case d.Kind == "AddressPool":
		m.addressPool(d.Name(), d.Metadata.Name, body.Spec)
		return
	case slices.Contains(written(), d.Kind):
		m.tell(Carried, d.Name(), "", "is MetalLB's own report; Herald writes its own (Service conditions, SpeakerStatus)")
		return
	case !ok:
		m.tell(Lost, d.Name(), "", "Herald has nothing like the kind "+d.Kind)
		return
	}
	o := m.object(d.Kind, d.Metadata.Name, d.Name())
	o.Labels = body.Metadata.Labels
	for _, name := range sortedKeys(body.Metadata.Annotations) {
		if name != corev1.LastAppliedConfigAnnotation {
			o.note(Changed, "metadata.annotations["+name+"]", "", "annotations are left out: tools put them there for the object as it was")
		}
	}
	o.carry(m, rules, body.Spec)
}

// written are the kinds that MetalLB itself writes.
func written() []string {
	return []string{"ServiceL2Status", "ServiceBGPStatus", "ConfigurationState", "ConfigurationStatus"}
}

// object begins an object.
func (m *migration) object(kind, name, from string) *Object {
	o := &Object{Kind: kind, Name: name, Spec: map[string]any{}, from: from}
	m.result.Objects = append(m.result.Objects, o)
	return o
}

// unique leaves out what has the name of another: Herald's kinds belong to no namespace.
func (m *migration) unique() {
	first := map[string]*Object{}
	m.result.Objects = slices.DeleteFunc(m.result.Objects, func(o *Object) bool {
		key := o.Kind + " " + o.Name
		if had := first[key]; had != nil {
			m.tell(Lost, o.from, "", fmt.Sprintf("there is %s already, made of %s, and Herald's kinds belong to no namespace: rename one of the two", key, had.from))
			return true
		}
		first[key] = o
		return false
	})
	order := []string{"IPAddressPool", "L2Advertisement", "BFDProfile", "BGPPeer", "Community", "BGPAdvertisement"}
	slices.SortStableFunc(m.result.Objects, func(a, b *Object) int { return slices.Index(order, a.Kind) - slices.Index(order, b.Kind) })
}

// note notes what becomes of a field; target is the one that it became, "" if none.
func (o *Object) note(v Verdict, field, target, message string) {
	if v != Carried { // it is not carried over as it is, then
		o.notes = slices.DeleteFunc(o.notes, func(n Note) bool { return n.Verdict == Carried && n.Field == field })
	}
	o.notes = append(o.notes, Note{Verdict: v, Object: o.from, Field: field, Message: message, target: target})
}

// rule says what becomes of a field.
type rule func(m *migration, o *Object, field string, value any)

// carry migrates the fields of a spec, each by its rule. A field without one is lost, and named.
func (o *Object) carry(m *migration, rules map[string]rule, spec map[string]any) {
	for _, field := range sortedKeys(spec) {
		if r := rules[field]; r != nil {
			r(m, o, field, spec[field])
			continue
		}
		o.note(Lost, field, "", "Herald has no such field, or does not know it")
	}
	if r := rules[afterwards]; r != nil {
		r(m, o, "", nil)
	}
}

// afterwards is the key of the rule that is applied when all fields are there.
const afterwards = ""
