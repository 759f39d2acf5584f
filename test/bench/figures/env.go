package figures

import (
	"os"
	"strconv"
	"testing"
)

// Number reads a number of at least 1 from the environment; usual is what it is when nothing is said.
func Number(t *testing.T, env string, usual int) int {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: give a number of at least 1", env, text)
	}
	return n
}
