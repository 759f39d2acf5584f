// Package probe says what an outsider sees of an address: who answers for it on the wire, what is announced unasked, whether a
// connection comes about, and for how long none of that was so. It asks with raw frames, so the asking host's neighbour cache plays no part.
package probe
