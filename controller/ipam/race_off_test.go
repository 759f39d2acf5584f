//go:build !race

package ipam

// steps of random histories.
const historySteps = 100_000
