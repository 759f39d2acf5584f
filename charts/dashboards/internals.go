package main

func internals() dashboard {
	s := jobScope()
	return board(
		dashboard{UID: "herald-internals", Title: "Herald / Internals", Description: "What the daemons themselves do and use."},
		append(sources(), jobs(), pods()),
		section{"Work", workPanels(s)},
		section{"API server", apiPanels(s)},
		section{"Process", processPanels(s)},
	)
}

func workPanels(s scope) []panel {
	return []panel{
		graph("Reconcile duration, 99 % of them", seconds, "Time that a stage of a daemon's loop took. Controller: plan, announce. Speaker: read, decide, apply, report.", s,
			q(`histogram_quantile(0.99, sum by (le, stage) (rate(herald_reconcile_duration_seconds_bucket@[$__rate_interval])))`, "{{stage}}")),
		graph("Reconcile duration, average", seconds, "Time that a stage took on average.", s,
			q(`sum by (stage) (rate(herald_reconcile_duration_seconds_sum@[$__rate_interval])) / sum by (stage) (rate(herald_reconcile_duration_seconds_count@[$__rate_interval]))`, "{{stage}}")),
		graph("Rounds", perSecond, "How often each stage was gone through.", s,
			q(`sum by (stage) (rate(herald_reconcile_duration_seconds_count@[$__rate_interval]))`, "{{stage}}")),
		graph("Share of time spent", fraction, "Of one processor, by Pod, in all stages.", s,
			q(`sum by (pod) (rate(herald_reconcile_duration_seconds_sum@[$__rate_interval]))`, "{{pod}}")),
	}
}

func apiPanels(s scope) []panel {
	return []panel{
		graph("Writes", writesRate, "Write requests to the API server, by kind of object.", s, q(`sum by (kind) (rate(herald_api_writes_total@[$__rate_interval]))`, "{{kind}}")),
		graph("Writes that failed", writesRate, "conflict: something newer was there, and is looked at again. error: refused, or not reached.", s,
			q(`sum by (kind, result) (rate(herald_api_writes_total@{result!="ok"}[$__rate_interval]))`, "{{kind}} {{result}}")),
		graph("Writes that wait", count, "Writes to Services that wait or are under way in the controller.", s, q(`sum by (class) (herald_pending_writes@)`, "{{class}}")).whole(),
		states("Connected to the API server", "Whether everything that a daemon reads is being watched.", s, q(`max by (pod) (herald_api_connected@)`, "{{pod}}")),
	}
}

func processPanels(s scope) []panel {
	return []panel{
		graph("CPU", cores, "Processors in use: 1 is one of them, all the time.", s, q(`sum by (pod) (rate(process_cpu_seconds_total@[$__rate_interval]))`, "{{pod}}")),
		graph("Memory", size, "Resident memory.", s, q(`max by (pod) (process_resident_memory_bytes@)`, "{{pod}}")),
		graph("Goroutines", count, "A number that only grows is a leak.", s, q(`max by (pod) (go_goroutines@)`, "{{pod}}")).whole(),
		graph("Heap", size, "Memory that Go has allocated and not yet freed.", s, q(`max by (pod) (go_memstats_heap_alloc_bytes@)`, "{{pod}}")),
		graph("Open files", count, "Sockets included.", s, q(`max by (pod) (process_open_fds@)`, "{{pod}}")).whole(),
		table("Running for", seconds, "Time since the process was started.", s, q(`time() - max by (pod, node) (process_start_time_seconds@)`, "Running for")),
	}
}
