// Package bgp measures Herald's BGP engine against real routers: how quickly many routes, and one more, get to four FRR peers; what one
// hung peer does to the others; what it costs in memory and processor time; and how many routes a restart of the speaker takes out of the
// kernels of FRR and BIRD. The engine (speaker/bgp with its sessions) runs in a process of its own, so that its costs are its own, on a node
// of a laboratory without Kubernetes. Figures are printed; of them only what must hold on any machine is asserted: that all routes arrive,
// and that a restart deletes none.
package bgp
