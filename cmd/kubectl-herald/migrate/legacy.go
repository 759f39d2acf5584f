package migrate

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	sigs "sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/cmd/kubectl-herald/manifest"
)

// addressPool migrates a pool of the kind that says itself how it is announced.
func (m *migration) addressPool(from, name string, spec map[string]any) {
	pool := m.object("IPAddressPool", name, from)
	protocol, adverts := spec["protocol"], list(spec["bgpAdvertisements"])
	for _, field := range []string{"protocol", "bgpAdvertisements"} {
		delete(spec, field)
	}
	pool.carry(m, kinds()["IPAddressPool"], spec)
	switch fmt.Sprint(protocol) {
	case "layer2":
		m.advertisement("L2Advertisement", name, name, from)
		pool.note(Changed, "protocol", "", "is the L2Advertisement "+name)
		if len(adverts) > 0 {
			pool.note(Lost, "bgpAdvertisements", "", "the pool is not announced by BGP")
		}
	case "bgp":
		pool.note(Changed, "protocol", "", "is the BGPAdvertisement "+name)
		if len(adverts) == 0 {
			m.advertisement("BGPAdvertisement", name, name, from)
		}
		for i, advert := range adverts {
			own := name
			if i > 0 {
				own = fmt.Sprintf("%s-%d", name, i+1)
			}
			fields, _ := advert.(map[string]any)
			m.advertisement("BGPAdvertisement", own, name, from).carry(m, kinds()["BGPAdvertisement"], fields)
			pool.note(Changed, fmt.Sprintf("bgpAdvertisements[%d]", i), "", "is the BGPAdvertisement "+own)
		}
	default:
		pool.note(Lost, "protocol", "", fmt.Sprintf("is %v, neither layer2 nor bgp: no advertisement is made of it", protocol))
	}
}

// advertisement begins the advertisement of a pool.
func (m *migration) advertisement(kind, name, pool, from string) *Object {
	o := m.object(kind, name, from)
	o.Spec["ipAddressPools"] = []any{pool}
	return o
}

// configMap migrates the configuration of MetalLB before 0.13, which was one text in a ConfigMap.
func (m *migration) configMap(d manifest.Document) {
	var o corev1.ConfigMap
	err := d.Decode(&o)
	text, is := o.Data[oldConfig]
	switch {
	case err != nil:
		m.tell(Lost, d.Name(), "", "cannot be read: "+err.Error())
		return
	case o.Name == frrExtras:
		m.tell(Lost, d.Name(), "", "is raw configuration of FRR: Herald runs no FRR; what a BGPPeer or BGPAdvertisement can say, say there")
		return
	case !is:
		m.tell(Lost, d.Name(), "", "is no configuration of MetalLB: it has no entry "+oldConfig)
		return
	}
	var raw map[string]any
	if err := sigs.Unmarshal([]byte(text), &raw); err != nil {
		m.tell(Lost, d.Name(), oldConfig, "is no YAML: "+err.Error())
		return
	}
	c, _ := camel(raw).(map[string]any)
	for _, field := range sortedKeys(c) {
		switch field {
		case "addressPools":
			m.each(d.Name(), field, c[field], func(name, from string, fields map[string]any) { m.addressPool(from, name, fields) })
		case "peers":
			m.each(d.Name(), field, c[field], func(name, from string, fields map[string]any) {
				m.object("BGPPeer", name, from).carry(m, kinds()["BGPPeer"], fields)
			})
		case "bfdProfiles":
			m.each(d.Name(), field, c[field], func(name, from string, fields map[string]any) {
				m.object("BFDProfile", name, from).carry(m, kinds()["BFDProfile"], fields)
			})
		case "bgpCommunities":
			raw, _ := raw["bgp-communities"].(map[string]any) // names are not to be touched
			m.oldCommunities(d.Name(), raw)
		default:
			m.tell(Lost, d.Name(), field, "Herald has nothing like it, or does not know it")
		}
	}
}

// each goes through a list of the old configuration. What has no name is given one by its place.
func (m *migration) each(from, field string, value any, take func(name, from string, fields map[string]any)) {
	for i, item := range list(value) {
		fields, _ := item.(map[string]any)
		where := fmt.Sprintf("%s, %s[%d]", from, field, i)
		name, _ := fields["name"].(string)
		delete(fields, "name")
		if name == "" {
			name = fmt.Sprintf("%s-%d", strings.TrimSuffix(strings.ToLower(field), "s"), i+1)
		}
		take(name, where, fields)
	}
}

func (m *migration) oldCommunities(from string, names map[string]any) {
	var all []any
	for _, name := range sortedKeys(names) {
		all = append(all, map[string]any{"name": name, "value": names[name]})
	}
	aliases(m, m.object("Community", "communities", from+", bgp-communities"), "communities", all)
}

// camel writes the keys of the old configuration as the custom resources do.
func camel(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, part := range v {
			if key == "match-labels" { // the keys in it are the user's
				out["matchLabels"] = part
				continue
			}
			out[camelWord(key)] = camel(part)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = camel(v[i])
		}
		return out
	}
	return value
}

// camelWord writes one key: my-asn is myASN.
func camelWord(key string) string {
	words := strings.Split(key, "-")
	for i, w := range words {
		switch {
		case i == 0:
		case w == "asn" || w == "id":
			words[i] = strings.ToUpper(w)
		case w == "ips":
			words[i] = "IPs"
		case w == "multihop":
			words[i] = "MultiHop"
		case w != "":
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	switch out := strings.Join(words, ""); out {
	case "localpref":
		return "localPref"
	default:
		return out
	}
}
