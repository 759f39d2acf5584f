//go:build race

package ipam

// steps of random histories; the race detector makes them slow.
const historySteps = 10_000
