package main

import "fmt"

// everything is what "All" stands for where the label may be absent.
const everything = ".*"

// sources are the variables that every dashboard has.
func sources() []variable {
	return []variable{
		{
			Name: "datasource", Label: "Data source", Description: "The Prometheus that scrapes Herald.", Type: "datasource",
			Query: "prometheus", Refresh: 1, Options: []any{}, Current: map[string]any{},
		},
		labels("cluster", "Cluster", "Where several clusters are in one data source: the label that tells them apart.", "herald_build_info", ""),
		labels("namespace", "Namespace", "Herald's, one for each installation.", "herald_build_info", `{cluster=~"$cluster"}`),
	}
}

// nodes and peers choose among the speakers' series.
func nodes() variable {
	return labels("node", "Node", "Nodes with a speaker.", "herald_announced_addresses", `{cluster=~"$cluster", namespace=~"$namespace"}`)
}

func peers() variable {
	return labels("peer", "Peer", "BGPPeers.", "herald_bgp_session_up", `{cluster=~"$cluster", namespace=~"$namespace"}`)
}

// jobs and pods choose among Herald's processes. A job has no "everything": other programs have metrics of these names, too.
func jobs() variable {
	v := labels("job", "Job", "Prometheus' jobs that scrape Herald.", "herald_build_info", `{cluster=~"$cluster", namespace=~"$namespace"}`)
	v.AllValue = ""
	return v
}

func pods() variable {
	return labels("pod", "Pod", "Herald's Pods.", "herald_build_info", `{cluster=~"$cluster", namespace=~"$namespace", job=~"$job"}`)
}

// labels is a variable with the values of a label: several may be chosen, or all.
func labels(name, label, description, metric, selector string) variable {
	text := fmt.Sprintf("label_values(%s%s, %s)", metric, selector, name)
	return variable{
		Name: name, Label: label, Description: description, Type: "query", Datasource: prometheus(), Definition: text,
		Query: variableQuery{Query: text, RefID: "Variable-" + name}, Refresh: 2, Sort: 5, Multi: true, IncludeAll: true, AllValue: everything,
		Options: []any{}, Current: map[string]any{"text": []string{"All"}, "value": []string{"$__all"}},
	}
}
