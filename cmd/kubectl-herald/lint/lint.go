// Package lint judges objects from files as the API server and Herald's daemons would, without a cluster: first each by its schema, then all
// together by config/parse, then the Services among them by controller/ipam and speaker/decide.
package lint

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/explain"
	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/manifest"
	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/speaker/decide"
)

// Result is what there is to say of the objects.
type Result struct {
	Healthy     bool              `json:"healthy"`
	Findings    []finding.Finding `json:"findings"`
	Objects     int               `json:"objects"` // that Herald asks about
	Skipped     int               `json:"skipped"` // of kinds that Herald does not ask about
	Assignments []Assignment      `json:"assignments"`
}

// Assignment is what a Service among the objects would be given by a cluster that has nothing else.
type Assignment struct {
	Service   string       `json:"service"`
	Addresses []netip.Addr `json:"addresses"`
	Pools     []string     `json:"pools"`
}

// Judge judges objects together. class is the load balancer class of the installation that they are meant for.
func Judge(docs []manifest.Document, class string) (Result, error) {
	all, err := loadSchemas()
	if err != nil {
		return Result{}, fmt.Errorf("reading the definitions of Herald's kinds: %w", err)
	}
	return judgeAll(all, docs, class), nil
}

// judgeAll judges objects by schemas that have been read, and together.
func judgeAll(all schemas, docs []manifest.Document, class string) Result {
	l := &linter{schemas: all, cluster: &kube.Cluster{}, seen: map[string]string{}}
	for _, d := range docs {
		l.take(d)
	}
	l.complete()
	l.together(class)
	l.result.Findings = finding.Sort(l.result.Findings)
	l.result.Healthy = !finding.Errors(l.result.Findings)
	return l.result
}

type linter struct {
	schemas schemas
	cluster *kube.Cluster
	seen    map[string]string // where an object of that name was read
	result  Result
}

func (l *linter) wrong(about, reason, message string) {
	l.result.Findings = append(l.result.Findings, finding.Finding{Level: finding.Error, About: about, Reason: reason, Message: message})
}

// take judges one object by itself. What its schema refuses never reaches Herald, so it goes no further.
func (l *linter) take(d manifest.Document) {
	if d.Err != nil {
		l.wrong(d.Source, "NotAnObject", d.Err.Error())
		return
	}
	if first, ok := l.seen[d.APIVersion+" "+d.Name()]; ok {
		l.wrong(d.Name(), "Duplicate", "it stands in "+first+" and in "+d.Source+"; the later one would replace the first")
		return
	}
	l.seen[d.APIVersion+" "+d.Name()] = d.Source
	if d.Ours() {
		schema := l.schemas.of(d)
		if schema == nil {
			l.wrong(d.Name(), "UnknownKind", "Herald has no kind "+d.Kind+" in "+d.APIVersion+" ("+d.Source+")")
			return
		}
		next, refused := judge(schema, d)
		for _, text := range refused {
			l.wrong(d.Name(), "Refused", text+" ("+d.Source+")")
		}
		if len(refused) > 0 {
			l.result.Objects++
			return
		}
		d = next
		if d.Metadata.Namespace != "" {
			l.result.Findings = append(l.result.Findings, finding.Finding{
				Level: finding.Warning, About: d.Name(), Reason: "Namespaced", Message: "Herald's kinds belong to no namespace; metadata.namespace says nothing",
			})
		}
	}
	known, err := manifest.Add(l.cluster, d)
	switch {
	case err != nil:
		l.result.Objects++
		l.wrong(d.Name(), "Refused", err.Error()+" ("+d.Source+")")
	case known:
		l.result.Objects++
	default:
		l.result.Skipped++
	}
}

// complete fills in what a cluster would: families of Services, and namespaces.
func (l *linter) complete() {
	known := map[string]bool{}
	for _, n := range l.cluster.Namespaces {
		known[n.Name] = true
	}
	for _, s := range l.cluster.Services {
		if s.Namespace == "" {
			s.Namespace = metav1.NamespaceDefault
		}
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = families(s.Spec.IPFamilyPolicy)
		}
		if !known[s.Namespace] {
			known[s.Namespace] = true
			l.cluster.Namespaces = append(l.cluster.Namespaces, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
				Name: s.Namespace, Labels: map[string]string{corev1.LabelMetadataName: s.Namespace},
			}})
		}
	}
}

// families are those that a cluster of IPv4 first gives a Service that names none.
func families(policy *corev1.IPFamilyPolicy) []corev1.IPFamily {
	if policy == nil || *policy == corev1.IPFamilyPolicySingleStack {
		return []corev1.IPFamily{corev1.IPv4Protocol}
	}
	return []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
}

// together judges what the objects say of each other.
func (l *linter) together(class string) {
	objects := l.cluster.Objects
	objects.Options, objects.Synced, objects.SecretsUnseen = parse.Options{LoadBalancerClass: class}, true, true
	objects.Services = slices.DeleteFunc(slices.Clone(objects.Services), func(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeLoadBalancer })
	snap, _ := parse.Parse(objects, parse.Memory{})
	for _, p := range snap.Problems {
		l.result.Findings = append(l.result.Findings, explain.FromProblem(p))
	}
	l.services(snap)
	l.unused(snap)
}

// services says what each Service would be given, and whether an advertisement covers it.
func (l *linter) services(snap *config.Snapshot) {
	plan := ipam.Compute(snap, l.cluster.Now)
	given := *snap
	given.Services = nil
	for _, out := range plan.Services {
		if out.Allocated.Status == "False" {
			l.wrong("Service "+out.Service.String(), out.Allocated.Reason, out.Allocated.Message)
		}
		if len(out.Addresses) == 0 {
			continue
		}
		svc := *out.Service
		svc.Ingress = out.Addresses
		given.Services = append(given.Services, &svc)
		l.result.Assignments = append(l.result.Assignments, Assignment{svc.String(), out.Addresses, out.Pools})
	}
	explainer := decide.NewExplainer(decide.Facts{Config: &given})
	for _, svc := range given.Services {
		for _, e := range explainer.Service(svc.Key) {
			if e.Reason == decide.NoAdvertisement {
				l.wrong("Service "+svc.String(), string(e.Reason), e.Addr.String()+": "+e.Message)
			}
		}
	}
}

// unused says of pools that no advertisement covers them: their addresses would be given out, and reach nobody.
func (l *linter) unused(snap *config.Snapshot) {
	if len(snap.L2Advertisements) == 0 && len(snap.BGPAdvertisements) == 0 {
		return // the files are about something else
	}
	for _, pool := range snap.Pools {
		l2 := slices.ContainsFunc(snap.L2Advertisements, func(a *config.L2Advertisement) bool { return a.Pools.Has(pool.Name) })
		bgp := slices.ContainsFunc(snap.BGPAdvertisements, func(a *config.BGPAdvertisement) bool { return a.Pools.Has(pool.Name) })
		if !l2 && !bgp {
			l.result.Findings = append(l.result.Findings, finding.Finding{
				Level: finding.Warning, About: "IPAddressPool " + pool.Name, Reason: "NotAdvertised", Message: "no advertisement among the files selects the pool",
				Remedy: "name it in an advertisement's ipAddressPools",
			})
		}
	}
}

// Draw draws the result.
func (r Result) Draw(c *print.Screen) {
	c.Findings(r.Findings, 0)
	for _, a := range r.Assignments {
		parts := make([]string, len(a.Addresses))
		for i, addr := range a.Addresses {
			parts[i] = addr.String() + " from pool " + a.Pools[i]
		}
		c.Line(print.C("Service " + a.Service + " would be given " + strings.Join(parts, ", ")))
	}
	word := print.Yes(r.Healthy, "no errors")
	if !r.Healthy {
		word.Text = "errors found"
	}
	c.Line(print.C(fmt.Sprintf("%d objects judged, %d of other kinds skipped: ", r.Objects, r.Skipped)), word)
}
