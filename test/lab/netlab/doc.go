// Package netlab builds small networks out of Linux network namespaces: hosts, Ethernet segments, and cables that can be cut.
//
// Everything happens inside fresh mount, network and PID namespaces (plus a user namespace when not root) that [Enter] makes by
// re-executing the running program, so nothing a laboratory does is seen by the machine it runs on, and nothing is left when it ends.
package netlab
