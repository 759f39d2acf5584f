// Package bfd watches paths to neighbours by Bidirectional Forwarding Detection (RFC 5880) in asynchronous mode, over one hop (RFC 5881)
// or several (RFC 5883). Packet is the codec, Step the state table, Session one session as a pure value without clock or socket, and
// Runner the one goroutine that owns the timers of all sessions and the sockets, which it opens through a small Network interface.
//
// Not done, on purpose: authentication, the echo function, demand mode of our own (a neighbour may use it), and sessions that nobody
// configured.
package bfd
