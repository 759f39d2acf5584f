package main

func layer2() dashboard {
	s := nodeScope()
	return board(
		dashboard{UID: "herald-layer2", Title: "Herald / Layer 2", Description: "Who answers for which address by ARP and NDP, moves, conflicts, and what is asked."},
		append(sources(), nodes()),
		section{"Owners", ownerPanels(s)},
		section{"Moves and conflicts", movePanels(s)},
		section{"On the wire", wirePanels(s)},
		section{"Gossip", gossipPanels(s)},
	)
}

func ownerPanels(s scope) []panel {
	return []panel{
		graph("Addresses by node", count, "Addresses that a node answers for by ARP or NDP. They spread evenly over the nodes that may have them.", s,
			q(`sum by (node) (herald_announced_addresses@{protocol=~"ARP|NDP"})`, "{{node}}")).whole().stacked(),
		table("Who answers", noUnit,
			"Each address with its Service and the node that answers for it. The Service's namespace and name are called exported_ where the monitor has labels of these names of its own. "+
				"Without lines: the speakers run with --metrics-announcements=false.", s,
			q(`max by (ip, protocol, node, exported_namespace, service, exported_service) (herald_announcement@{protocol=~"ARP|NDP"})`, "Answers")).none("none"),
	}
}

func movePanels(s scope) []panel {
	return []panel{
		stat("Moves in the last hour", "How often a node took an address that another one had.", s,
			`sum(increase(herald_l2_ownership_changes_total@{reason!="Elected"}[1h])) or vector(0)`).whole().thresholds(good, at(10, notice)).size(4, 8),
		graph("Ownership changes by reason", count,
			"Elected: nobody had the address. TookOver: its owner is gone, or no longer eligible. Returned: its owner gave it to this node. Moved: it was asked for. Won: two claimed it.", s,
			q(`sum by (reason) (increase(herald_l2_ownership_changes_total@[$__rate_interval]))`, "{{reason}}")).bars().size(10, 8),
		graph("Ownership changes by node", count, "Which nodes took addresses.", s,
			q(`sum by (node) (increase(herald_l2_ownership_changes_total@[$__rate_interval]))`, "{{node}}")).bars().size(10, 8),
		graph("Addresses in conflict", count, "Addresses that a machine which is no speaker was lately heard to use.", s,
			q(`sum by (node) (herald_l2_conflicting_addresses@)`, "{{node}}")).whole().thresholds(good, at(1, bad)),
		graph("Foreign claims", packets, "Frames in which another station claims an address that the node answers for. During a move that may be another speaker.", s,
			q(`sum by (node, interface, protocol) (rate(herald_l2_conflicts_total@[$__rate_interval]))`, "{{node}} {{interface}} {{protocol}}")),
	}
}

func wirePanels(s scope) []panel {
	return []panel{
		graph("Requests", packets, "ARP requests and neighbour solicitations for addresses that the node answers for.", s,
			q(`sum by (node, protocol) (rate(herald_l2_requests_total@[$__rate_interval]))`, "{{node}} {{protocol}}")),
		graph("Replies", packets, "Answers to them.", s, q(`sum by (node, protocol) (rate(herald_l2_replies_total@[$__rate_interval]))`, "{{node}} {{protocol}}")),
		graph("Gratuitous announcements", packets, "Gratuitous ARP and unsolicited neighbour advertisements: at a takeover, and as often as refreshInterval says.", s,
			q(`sum by (node, protocol) (rate(herald_l2_gratuitous_total@[$__rate_interval]))`, "{{node}} {{protocol}}")),
		graph("Frames that could not be sent", packets, "Answers and announcements that the kernel refused.", s,
			q(`sum by (node, interface, protocol) (rate(herald_l2_send_errors_total@[$__rate_interval]))`, "{{node}} {{interface}} {{protocol}}")),
	}
}

func gossipPanels(s scope) []panel {
	return []panel{
		graph("Speakers alive, as each node sees it", count, "All nodes should see the same number. Nodes that see different ones are cut off from each other.", s,
			q(`max by (node) (herald_gossip_members@{state="alive"})`, "{{node}}")).whole(),
		graph("Speakers not alive", count, "By state, as the node sees it that sees most of them.", s,
			q(`max by (state) (herald_gossip_members@{state!="alive"})`, "{{state}}")).whole(),
	}
}
