package main

func bgp() dashboard {
	s := peerScope()
	return board(
		dashboard{UID: "herald-bgp", Title: "Herald / BGP and BFD", Description: "Sessions by node and peer, flaps, prefixes and updates."},
		append(sources(), nodes(), peers()),
		section{"Sessions", sessionPanels(s)},
		section{"Routes", routePanels(s)},
		section{"BFD", pathPanels(s)},
	)
}

func sessionPanels(s scope) []panel {
	return []panel{
		stat("Established", "BGP sessions that are up.", s, `sum(herald_bgp_session_up@) or vector(0)`).whole().thresholds(neutral),
		stat("Down", "BGP sessions that a node should have, and that are not established.", s, `count(herald_bgp_session_up@ == 0) or vector(0)`).
			whole().thresholds(good, at(1, bad)),
		stat("Lost in the last hour", "How often a session went down.", s,
			`sum(increase(herald_bgp_session_transitions_total@{state="down"}[1h])) or vector(0)`).whole().thresholds(good, at(1, notice)),
		graph("Sessions by peer", count, "Nodes that have an established session with the peer.", s, q(`sum by (peer) (herald_bgp_session_up@)`, "{{peer}}")).whole().size(12, 8),
		states("Sessions by node and peer", "Each session over time. kubectl herald bgp says why one is down.", s,
			q(`max by (node, peer) (herald_bgp_session_up@)`, "{{node}} → {{peer}}")),
		graph("Flaps", count, "How often a session went down.", s,
			q(`sum by (node, peer) (increase(herald_bgp_session_transitions_total@{state="down"}[$__rate_interval]))`, "{{node}} → {{peer}}")).bars(),
	}
}

func routePanels(s scope) []panel {
	return []panel{
		graph("Advertised prefixes", count, "What each peer was told, by node and family.", s,
			q(`sum by (node, peer, family) (herald_bgp_advertised_prefixes@)`, "{{node}} → {{peer}} {{family}}")).whole(),
		table("Advertised prefixes now", count, "By peer and family: how many nodes advertise how many prefixes.", s,
			q(`count by (peer, family) (herald_bgp_advertised_prefixes@)`, "Nodes"), q(`min by (peer, family) (herald_bgp_advertised_prefixes@)`, "Least"),
			q(`max by (peer, family) (herald_bgp_advertised_prefixes@)`, "Most")),
		graph("Updates sent", updates, "UPDATE messages to peers.", s,
			q(`sum by (node, peer) (rate(herald_bgp_updates_total@{direction="sent"}[$__rate_interval]))`, "{{node}} → {{peer}}")),
		graph("Updates received", updates, "UPDATE messages from peers. Herald takes no routes: many of them are work for nothing.", s,
			q(`sum by (node, peer) (rate(herald_bgp_updates_total@{direction="received"}[$__rate_interval]))`, "{{peer}} → {{node}}")),
		graph("Routes refused", perSecond, "Routes that peers offered; all are refused. Let the router filter them.", s,
			q(`sum by (node, peer) (rate(herald_bgp_refused_routes_total@[$__rate_interval]))`, "{{peer}} → {{node}}")).size(24, 6),
	}
}

func pathPanels(s scope) []panel {
	return []panel{
		states("Paths by node and peer", "Whether BFD sees the path; for peers with a BFDProfile.", s,
			q(`max by (node, peer) (herald_bfd_session_up@)`, "{{node}} → {{peer}}")).none("no peer has a BFDProfile"),
		graph("Failures seen by BFD", count, "How often BFD saw a path fail.", s,
			q(`sum by (node, peer) (increase(herald_bfd_session_transitions_total@{state="down"}[$__rate_interval]))`, "{{node}} → {{peer}}")).bars().none("no peer has a BFDProfile"),
	}
}
