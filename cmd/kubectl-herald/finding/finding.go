// Package finding is what the plugin has to say of a cluster: what is wrong or doubtful, with what, and what to do about it.
package finding

import (
	"cmp"
	"slices"
	"strings"
)

// Level is how bad something is.
type Level string

// The two levels. Only an Error makes the plugin exit with 1.
const (
	Error   Level = "error"   // something does not work
	Warning Level = "warning" // it works, or may, and deserves a look
)

// Finding is one thing found.
type Finding struct {
	Level   Level  `json:"level"`
	About   string `json:"about"`            // kind and name, such as "IPAddressPool lan"
	Reason  string `json:"reason"`           // CamelCase
	Message string `json:"message"`          // for a person
	Remedy  string `json:"remedy,omitempty"` // what to do
}

// Errors reports whether there is one among the findings.
func Errors(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Level == Error })
}

// Sort puts errors first; then what is about the same thing stands together. Equal findings become one.
func Sort(all []Finding) []Finding {
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank(a.Level), rank(b.Level)), strings.Compare(a.About, b.About), strings.Compare(a.Reason, b.Reason),
			strings.Compare(a.Message, b.Message))
	})
	return slices.Compact(out)
}

func rank(l Level) int {
	if l == Error {
		return 0
	}
	return 1
}
