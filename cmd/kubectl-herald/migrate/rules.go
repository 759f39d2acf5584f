package migrate

import (
	"fmt"
	"slices"
)

// kinds are the kinds that Herald has, too, with what becomes of each field.
func kinds() map[string]map[string]rule {
	return map[string]map[string]rule{
		"IPAddressPool": {
			"addresses": listed(addresses), "autoAssign": same, "avoidBuggyIPs": unless(false, same), "serviceAllocation": allocation,
		},
		"L2Advertisement": {
			"ipAddressPools": listed(set), "ipAddressPoolSelectors": same, "nodeSelectors": same, "serviceSelectors": same, "interfaces": listed(set),
		},
		"BGPAdvertisement": {
			"ipAddressPools": listed(set), "ipAddressPoolSelectors": same, "nodeSelectors": same, "serviceSelectors": same, "peers": listed(set),
			"aggregationLength": same, "aggregationLengthV6": same, "localPref": unless(0, same), "communities": listed(communities),
		},
		"Community": {"communities": listed(aliases)},
		"BFDProfile": {
			"receiveInterval": same, "transmitInterval": same, "detectMultiplier": same, "passiveMode": unless(false, same), "minimumTtl": same,
			"echoMode":     unless(false, lost("Herald has no BFD echo mode; the path is watched by control packets alone")),
			"echoInterval": lost("Herald has no BFD echo mode, which this would set the pace of"),
		},
		"BGPPeer": peerRules(),
	}
}

func peerRules() map[string]rule {
	return map[string]rule{
		"myASN": same, "peerASN": unless(0, same), "dynamicASN": unless("", same), "localASN": unless(0, same),
		"peerAddress": unless("", same), "interface": unless("", same), "sourceAddress": unless("", same), "peerPort": unless(0, same),
		"holdTime": duration(65535), "keepaliveTime": duration(21845), "connectTime": duration(300),
		"routerID": unless("", routerID), "nodeSelectors": same, "bfdProfile": unless("", same), "vrf": unless("", same), "ebgpMultiHop": unless(false, same),
		"password": unless("", password), "passwordSecret": secret,
		"enableGracefulRestart": gracefulRestart, "disableMP": disableMP, "dualStackAddressFamily": unless(false, dualStack),
		afterwards: peer,
	}
}

// same carries a field over as it is.
func same(_ *migration, o *Object, field string, value any) {
	o.Spec[field] = value
	o.note(Carried, field, field, "")
}

// unless applies a rule to values other than the one that says nothing.
func unless(nothing any, r rule) rule {
	return func(m *migration, o *Object, field string, value any) {
		if value == nil || fmt.Sprint(value) == fmt.Sprint(nothing) {
			o.note(Carried, field, "", "says nothing but the default")
			return
		}
		r(m, o, field, value)
	}
}

// lost says of a field why it is not carried over.
func lost(why string) rule {
	return func(_ *migration, o *Object, field string, _ any) { o.note(Lost, field, "", why) }
}

// listed applies a rule to lists that have something in them.
func listed(r rule) rule {
	return func(m *migration, o *Object, field string, value any) {
		all, ok := value.([]any)
		switch {
		case value == nil || ok && len(all) == 0:
			o.note(Carried, field, "", "says nothing but the default")
		case !ok:
			o.note(Lost, field, "", "is no list")
		default:
			r(m, o, field, value)
		}
	}
}

// set carries a list over in which nothing may stand twice.
func set(_ *migration, o *Object, field string, value any) {
	all := list(value)
	var once []any
	for _, v := range all {
		if !slices.ContainsFunc(once, func(had any) bool { return fmt.Sprint(had) == fmt.Sprint(v) }) {
			once = append(once, v)
		}
	}
	o.Spec[field] = once
	if len(once) < len(all) {
		o.note(Changed, field, field, "what stood twice stands once")
		return
	}
	o.note(Carried, field, field, "")
}

// allocation carries over which Services may have addresses.
func allocation(m *migration, o *Object, field string, value any) {
	fields, ok := value.(map[string]any)
	if !ok {
		o.note(Lost, field, "", "is no object")
		return
	}
	part := &Object{Spec: map[string]any{}, from: o.from}
	part.carry(m, map[string]rule{"priority": same, "namespaces": listed(set), "namespaceSelectors": same, "serviceSelectors": same}, fields)
	for _, n := range part.notes {
		if n.target != "" {
			n.target = field
		}
		n.Field = field + "." + n.Field
		o.notes = append(o.notes, n)
	}
	o.Spec[field] = part.Spec
	o.note(Changed, field, field, "it binds Services that ask for the pool or for one of its addresses, too")
}

// routerID carries the BGP identifier over.
func routerID(m *migration, o *Object, field string, value any) {
	same(m, o, field, value)
	o.note(Todo, field, field, "all nodes that hold the session have this identifier; a router refuses two neighbours with the same one (RFC 6286), so leave it out unless one node holds it: "+
		"without it each node has one of its own")
}

// password says that there is no place for one.
func password(m *migration, o *Object, field string, _ any) {
	name := o.Name + "-password"
	o.Spec["passwordSecret"] = map[string]any{"name": name}
	o.note(Todo, field, "passwordSecret", fmt.Sprintf("Herald reads passwords from Secrets only: kubectl -n %s create secret generic %s --type=kubernetes.io/basic-auth --from-literal=username= --from-literal=password=PASSWORD",
		m.namespace, name))
}

// secret carries the reference to a Secret over, which is to be copied.
func secret(m *migration, o *Object, field string, value any) {
	ref, _ := value.(map[string]any)
	name, _ := ref["name"].(string)
	if name == "" {
		o.note(Carried, field, "", "says nothing but the default")
		return
	}
	o.Spec[field] = map[string]any{"name": name}
	from, _ := ref["namespace"].(string)
	if from == "" {
		from = namespaceOf(o.from)
	}
	o.note(Todo, field, field, fmt.Sprintf("copy the Secret into Herald's namespace: kubectl -n %s get secret %s -o json | jq 'del(.metadata.namespace,.metadata.ownerReferences,.metadata.uid,.metadata.resourceVersion)' | kubectl -n %s apply -f -",
		from, name, m.namespace))
}

// gracefulRestart is on in Herald unless it is turned off.
func gracefulRestart(_ *migration, o *Object, field string, value any) {
	if value == true {
		o.Spec["gracefulRestart"] = map[string]any{"enabled": true}
		o.note(Changed, field, "gracefulRestart", "is gracefulRestart.enabled")
		return
	}
	o.note(Changed, field, "", "Herald negotiates graceful restart unless gracefulRestart.enabled is false, so that a restart of a speaker withdraws nothing")
}

// disableMP is how Herald's sessions are anyway.
func disableMP(_ *migration, o *Object, field string, value any) {
	if value == true {
		o.note(Carried, field, "", "a session has the family of its addresses unless families says more")
		return
	}
	o.note(Carried, field, "", "says nothing but the default")
}

func dualStack(_ *migration, o *Object, field string, _ any) {
	o.Spec["families"] = []any{"ipv4", "ipv6"}
	o.note(Changed, field, "families", "is families: [ipv4, ipv6]")
}

// peer looks at what the fields of a peer say of each other.
func peer(_ *migration, o *Object, _ string, _ any) {
	if o.Spec["interface"] != nil && o.Spec["families"] == nil {
		o.Spec["families"] = []any{"ipv4", "ipv6"}
		o.note(Changed, "interface", "families", "MetalLB negotiates both families on an unnumbered session; Herald only those that are listed")
	}
	internal := o.Spec["dynamicASN"] == "internal" || o.Spec["peerASN"] != nil && fmt.Sprint(o.Spec["peerASN"]) == fmt.Sprint(o.Spec["myASN"])
	if internal && o.Spec["ebgpMultiHop"] == true {
		delete(o.Spec, "ebgpMultiHop")
		o.note(Changed, "ebgpMultiHop", "", "the session is internal (iBGP), which may cross routers anyway")
	}
	hold, keepalive := seconds(o.Spec["holdTime"]), seconds(o.Spec["keepaliveTime"])
	if o.Spec["keepaliveTime"] != nil && o.Spec["holdTime"] != nil && hold > 0 && (keepalive >= hold || keepalive == 0) {
		delete(o.Spec, "keepaliveTime")
		o.note(Changed, "keepaliveTime", "holdTime", "keepaliveTime is left out, as it was not shorter than holdTime; it is a third of that then")
	}
}
