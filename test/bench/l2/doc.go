// Package l2 measures what Layer 2 announcements promise, in a laboratory of five nodes and as a client on the LAN sees it: for how long nobody
// answers when a speaker or a node dies, what a planned change costs, how soon one node answers after a split, how addresses spread, and
// what requests cost. It prints a table with the figure that is to be reached beside each; nothing about times is asserted, as they are the
// machine's as well.
//
// HERALD_BENCH_RUNS says how often things are repeated (20), HERALD_BENCH_SOAK how long false alarms are waited for (10m),
// HERALD_BENCH_ADDRESSES how many addresses of each family one node gets (10000; each is a Service, which the API server has to take).
package l2
