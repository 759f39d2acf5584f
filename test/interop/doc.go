// Package interop tells Herald's BGP speaker to talk to routers of five makes, and asks each router what it heard: one cell for each make
// and feature. The speaker is speaker/bgp with its real session engine, in this process, its sockets in the network namespace of a node;
// the routers are real daemons in namespaces of theirs (test/lab/router/peer). Assertions read the router's own view.
//
// Every cell is either tested, or says why that make cannot do it; a cell without either fails the suite. The table is printed at the end.
package interop
