// Package rules checks what the design asks of the repository as a whole: which package may import what, what stands at the top level,
// and that generated files are those that the generators would write now.
package rules
