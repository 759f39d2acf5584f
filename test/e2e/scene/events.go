package scene

import (
	"slices"
	"time"
)

// controllerName is how Herald's controller signs its events.
const controllerName = "heraldlb.io/controller"

// Event is one event about a Service.
type Event struct {
	Time               time.Time
	Type, Reason, Note string
}

func sorted(events []Event) []Event {
	slices.SortFunc(events, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return events
}

// WithReason returns the events of one reason.
func WithReason(events []Event, reason string) []Event {
	return slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return e.Reason != reason })
}
