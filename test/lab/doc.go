// Package lab is the laboratory: a real Kubernetes cluster, a router and clients on one machine, in network namespaces,
// without a container engine. Tests, benchmarks and the demonstration stand on it.
//
//	        client-far .50
//	             |  far       172.30.0.0/24   fd00:30::/64
//	          router .1
//	             |  lan       192.168.100.0/24  fd00:100::/64
//	+--------+---+----+--------+
//	client  node-1  node-2  node-3     eth0 .50, .11, .12, .13
//	         |        |        |       eth1
//	      control .10 +--------+  mgmt  10.10.0.0/24  fd00:10::/64
//
// The nodes' InternalIPs are their addresses on the LAN: there they announce and gossip. The API server and the Pods'
// own network are on the management segment, so that a cut LAN cable takes away what Herald is about and nothing else.
//
// A program or test that uses a laboratory calls [Enter] (or [Main]) before anything else.
package lab
