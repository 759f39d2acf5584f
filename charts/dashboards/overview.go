package main

// Parts of expressions about pools: a leader and the one before it may both be in the data for a moment, hence max.
const (
	poolAvailable = `max by (cluster, namespace, pool, family) (herald_pool_addresses@{state="available"})`
	poolTotal     = `max by (cluster, namespace, pool, family) (herald_pool_addresses@{state="total"})`
	poolAssigned  = `max by (cluster, namespace, pool, family) (herald_pool_addresses@{state="assigned"})`
	poolReserved  = `max by (cluster, namespace, pool, family) (herald_pool_addresses@{state="reserved"})`
	poolFill      = `1 - ` + poolAvailable + ` / (` + poolTotal + ` > 0)`
	poolEmptyIn   = poolAvailable + ` / (max by (cluster, namespace, pool, family) (-deriv(herald_pool_addresses@{state="available"}[6h])) > 0)`
)

func overview() dashboard {
	s := wholeScope()
	return board(
		dashboard{UID: "herald-overview", Title: "Herald / Overview", Description: "Services, pools, problems and versions: where to look first."},
		sources(),
		section{"Now", nowPanels(s)},
		section{"Services and pools", poolPanels(s)},
		section{"Problems", problemPanels(s)},
		section{"Daemons", versionPanels(s)},
	)
}

func nowPanels(s scope) []panel {
	return []panel{
		stat("Services served", "Services that have their addresses and are announced.", s,
			`sum(herald_announced_services@{state="Announced"}) or vector(0)`).whole().thresholds(neutral),
		stat("Without address", "Services that wait for an address; below stands why.", s,
			`sum(herald_services@{state!~"Allocated|Deleting"}) or vector(0)`).whole().thresholds(good, at(1, bad)),
		stat("Unannounced", "Services that have an address, and no node announces it.", s,
			`sum(herald_announced_services@{state!~"Announced|Pending"}) or vector(0)`).whole().thresholds(good, at(1, bad)),
		stat("Config problems", "Problems with objects of Herald's kinds; their condition Ready says what is wrong.", s,
			`sum(max by (cluster, namespace, kind) (herald_config_problems@)) or vector(0)`).whole().thresholds(good, at(1, notice)),
		stat("Nodes without speaker", "Nodes that should run a speaker, and none can be scraped.", s,
			`clamp_min(sum(herald_nodes@{state=~"live|missing"}) - count(herald_announced_addresses@{protocol="ARP"}), 0) or vector(0)`).
			whole().thresholds(good, at(1, bad)),
		stat("BGP sessions down", "Sessions that a node should have, and that are not established.", s,
			`count(herald_bgp_session_up@ == 0) or vector(0)`).whole().thresholds(good, at(1, bad)),
	}
}

func poolPanels(s scope) []panel {
	return []panel{
		table("Pools", count, "Addresses by pool and family. Full in: when the last address goes if the pool fills as in the last six hours.", s,
			q(poolTotal, "Total"), q(poolAssigned, "Assigned"), q(poolReserved, "Reserved"), q(poolAvailable, "Available"),
			q(poolFill, "Fill"), q(poolEmptyIn, "Full in")).
			column("Fill", fraction, at(0.75, notice), at(0.9, bad)).column("Full in", seconds).size(24, 8),
		graph("Pool fill", fraction, "Share of a pool's addresses that are assigned or reserved.", s, q(poolFill, "{{pool}} {{family}}")).
			top(1).thresholds(good, at(0.9, bad)).lined(),
		graph("Available addresses, and forecast", count,
			"What is available, and (broken lines) what will be in 24 hours if the pool goes on filling as in the last six. Below zero: it will be exhausted.", s,
			q(poolAvailable, "{{pool}} {{family}}"),
			q(`max by (cluster, namespace, pool, family) (predict_linear(herald_pool_addresses@{state="available"}[6h], 86400))`, "in 24 h: {{pool}} {{family}}")).
			signed().whole().dashed("^in 24 h.*"),
		graph("Services by state", count, "By the reason of their condition Allocated.", s, q(`sum by (state) (herald_services@)`, "{{state}}")).whole().stacked(),
		graph("Services with an address, by announcement", count, "By the reason of their condition Announced.", s,
			q(`sum by (state) (herald_announced_services@)`, "{{state}}")).whole().stacked(),
		graph("Assignments and refusals", perSecond, "Addresses assigned, and Services refused one, by reason.", s,
			q(`sum by (result) (rate(herald_allocations_total@[$__rate_interval]))`, "{{result}}")),
		graph("Time to an address", seconds, "From when the controller sees that a Service needs an address until that is written.", s,
			q(`histogram_quantile(0.5, sum by (le) (rate(herald_allocation_duration_seconds_bucket@[$__rate_interval])))`, "half of them"),
			q(`histogram_quantile(0.99, sum by (le) (rate(herald_allocation_duration_seconds_bucket@[$__rate_interval])))`, "99 %")),
	}
}

func problemPanels(s scope) []panel {
	return []panel{
		table("Alerts that fire", noUnit, "Each has a runbook in docs/runbooks.", s,
			q(`max by (alertname, severity, namespace, node, peer, pool, family, kind, state, reason) (ALERTS{alertname=~"Herald.*", alertstate="firing", cluster=~"$cluster"})`, "Firing")).
			none("none").size(12, 8),
		table("Problems of speakers and their nodes", noUnit, "What keeps speakers from their work, or is wrong with their nodes: conditions of the SpeakerStatus.", s,
			q(`max by (node, reason) (herald_speaker_problems@)`, "Problem")).none("none").size(12, 8),
		graph("Config problems by kind", count, "Objects that are left out, or whose last good version stays in force.", s,
			q(`max by (cluster, namespace, kind) (herald_config_problems@)`, "{{kind}}")).whole().none("none").size(8, 8),
		graph("Address conflicts", count, "Addresses that a foreign machine was lately heard to use.", s,
			q(`sum by (node) (herald_l2_conflicting_addresses@)`, "{{node}}")).whole().size(8, 8),
		graph("Sessions and paths down", count, "BGP sessions, and paths watched by BFD, that are down.", s,
			q(`count(herald_bgp_session_up@ == 0) or vector(0)`, "BGP"), q(`count(herald_bfd_session_up@ == 0) or vector(0)`, "BFD")).whole().size(8, 8),
	}
}

func versionPanels(s scope) []panel {
	return []panel{
		table("Versions", count, "How many daemons run each version.", s, q(`count by (namespace, job, version) (herald_build_info@)`, "Daemons")).size(8, 7),
		graph("Leader", noUnit, "The replica of the controller that leads.", s, q(`max by (pod) (herald_leader@)`, "{{pod}}")).top(1).whole().size(8, 7),
		graph("Config read", noUnit,
			"Sum of the generations of all config objects that a daemon has read. All daemons should say the same; who says less does not hear the API server.", s,
			q(`min(herald_config_generation@)`, "least"), q(`max(herald_config_generation@)`, "most")).whole().size(8, 7),
	}
}
