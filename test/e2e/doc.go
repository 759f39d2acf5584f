// Package e2e is the end-to-end suite: Herald's contract, tried from outside in the laboratory. The chart is installed once for all
// tests; each puts its own Services into the namespace default and takes them away again, so that any of them can be run alone.
//
// Times are printed, and bounded generously only: how long things take is for test/bench to say.
package e2e
