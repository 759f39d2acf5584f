package decide

import (
	"encoding/binary"
	"net/netip"
)

// The hash is part of the contract between speakers of different versions: two that rank nodes differently would both take an address.
// It must never change; a test holds its values fast.

// mix spreads a 64-bit value over all bits (a bijection with full avalanche, in the manner of a hash finalizer).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return x
}

// hashNode hashes a node name: FNV-1a, then mixed, because FNV leaves names that differ in their last digit close together.
func hashNode(name string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		h ^= uint64(name[i])
		h *= 0x100000001b3
	}
	return mix(h)
}

// hashAddr hashes an address by its 16-byte form.
func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	hi := binary.BigEndian.Uint64(b[:8])
	lo := binary.BigEndian.Uint64(b[8:])
	return mix(mix(hi+0x9e3779b97f4a7c15) ^ lo)
}

// score is the rendezvous weight of a node for an address: the higher, the better its rank.
func score(node, addr uint64) uint64 { return mix(node ^ (addr + 0x9e3779b97f4a7c15)) }
