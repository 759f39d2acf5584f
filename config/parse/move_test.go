package parse

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
)

func TestMove(t *testing.T) {
	until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	move := config.Move{From: "node-1", To: "node-2", Until: until}
	for _, test := range []struct {
		text string
		want config.Move
	}{
		{text: ""},
		{text: "node-1/node-2/2026-01-02T03:04:05Z", want: move},
		{text: "node-1/node-2/2026-01-02T05:04:05+02:00", want: move},
		{text: FormatMove(move), want: move},
		{text: FormatMove(config.Move{From: "node-1", To: "node-2", Until: until.In(time.FixedZone("", 3600))}), want: move},
		{text: "node-1/node-2"},
		{text: "node-1/node-2/soon"},
		{text: "node-1/node-1/2026-01-02T03:04:05Z"},
		{text: "/node-2/2026-01-02T03:04:05Z"},
		{text: "node-1//2026-01-02T03:04:05Z"},
		{text: "node-1/node-2/2026-01-02T03:04:05Z/more"},
	} {
		if got := ParseMove(test.text); got != test.want {
			t.Errorf("%q is %+v, want %+v", test.text, got, test.want)
		}
	}
}
