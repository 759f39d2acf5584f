// Package install is the suite about what comes before the first Service: the chart from its first install to its uninstall, what the
// definitions of the kinds accept and refuse, and what the daemons may do. It brings up a cluster of its own, as no other test would
// survive it.
package install
