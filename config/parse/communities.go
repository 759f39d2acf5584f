package parse

import (
	"fmt"
	"strings"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// communityRef is a community as an advertisement writes it: a value, or a name that a Community object gives.
type communityRef struct {
	value config.Community
	name  string // "" for a value
}

// alias is a name for a community.
type alias struct {
	value config.Community
	from  string // the Community object in force that gives it
}

// aliasSpec is a Community's spec as values.
type aliasSpec struct {
	names  []string
	values []config.Community
}

// isAlias reports whether a text can be a name for a community: letters, digits, "-", "_" and ".", beginning with a letter.
func isAlias(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789-_.", r)) {
			return false
		}
	}
	return s != ""
}

func parseCommunitySpec(o *v1beta1.Community) (aliasSpec, []config.Problem) {
	var spec aliasSpec
	var p specParser
	seen := make(map[string]bool, len(o.Spec.Communities))
	for i, c := range o.Spec.Communities {
		field := fmt.Sprintf("spec.communities[%d]", i)
		value, err := config.ParseCommunity(c.Value)
		if err != nil {
			p.fail(field+".value", InvalidCommunity, "%v", err)
		}
		_, wellKnown := config.ParseCommunity(c.Name)
		switch {
		case !isAlias(c.Name):
			p.fail(field+".name", InvalidCommunity, "%q is not a name: names are letters, digits, \"-\", \"_\" and \".\", and begin with a letter", c.Name)
		case wellKnown == nil:
			p.fail(field+".name", InvalidCommunity, "%q is the name of a well-known community; choose another", c.Name)
		case seen[c.Name]:
			p.fail(field+".name", DuplicateName, "%q stands twice in the object", c.Name)
		}
		seen[c.Name] = true
		spec.names, spec.values = append(spec.names, c.Name), append(spec.values, value)
	}
	return spec, p.problems
}

// parseCommunities takes in the names of all Community objects.
func (w *world) parseCommunities(objs []*v1beta1.Community) {
	for _, o := range objs {
		w.see(KindCommunity, o, o.Status.Conditions)
	}
	w.aliases = make(map[string]alias)
	for _, d := range update(&w.memory.aliased, objs, parseCommunitySpec) {
		spec := settle(w, config.Ref{Kind: KindCommunity, Name: d.name}, d, w.taken)
		if spec == nil {
			continue
		}
		for i, name := range spec.names {
			if _, ok := w.aliases[name]; !ok {
				w.aliases[name] = alias{spec.values[i], d.name}
			}
		}
	}
}

// taken finds a name to which an older object in force gives another value.
func (w *world) taken(spec *aliasSpec) *config.Problem {
	for i, name := range spec.names {
		if a, ok := w.aliases[name]; ok && a.value != spec.values[i] {
			return &config.Problem{
				Field: fmt.Sprintf("spec.communities[%d].name", i), Reason: DuplicateName,
				Message: fmt.Sprintf("%q is %s in the older Community %s, and %s here; choose another name, or let both say the same", name, a.value, a.from, spec.values[i]),
			}
		}
	}
	return nil
}

// communities reads what an advertisement lists.
func (p *specParser) communities(in []v1beta1.CommunityOrName) []communityRef {
	var out []communityRef
	for i, c := range in {
		text := string(c)
		value, err := config.ParseCommunity(text)
		switch {
		case err == nil:
			out = append(out, communityRef{value: value})
		case !strings.Contains(text, ":") && isAlias(text):
			out = append(out, communityRef{name: text})
		default:
			p.fail(fmt.Sprintf("spec.communities[%d]", i), InvalidCommunity, "%v; or a name that a Community object gives", err)
		}
	}
	return out
}

// resolve returns what the communities of a spec mean. While one of the names is not given by anybody, a version that was in force before
// goes by what it meant then, and any other has to wait.
func (w *world) resolve(spec *bgpSpec) (config.Communities, *config.Problem) {
	values := make([]config.Community, len(spec.communities))
	for i, c := range spec.communities {
		values[i] = c.value
		if c.name == "" {
			continue
		}
		a, ok := w.aliases[c.name]
		switch {
		case ok:
			values[i] = a.value
		case spec.kept != nil:
			return *spec.kept, nil
		default:
			return config.Communities{}, &config.Problem{
				Field: fmt.Sprintf("spec.communities[%d]", i), Reason: UnknownCommunity,
				Message: fmt.Sprintf("no Community object in force gives the name %q, and it is not a well-known one; the advertisement waits until one does", c.name),
			}
		}
	}
	return config.CommunitiesOf(values...), nil
}
