package e2e

import (
	"log/slog"
	"os"
	"testing"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
)

// laboratory is that of all tests here. Its directory is named so that logs can be kept for whoever looks into a failure.
var laboratory = scene.Shared{Options: lab.Options{Dir: os.Getenv("HERALD_E2E_DIR"), Log: slog.New(slog.DiscardHandler)}}

func TestMain(m *testing.M) {
	lab.Main(&scene.Suite{Tests: m, Lab: &laboratory}, lab.Build{Herald: true, Race: true})
}
