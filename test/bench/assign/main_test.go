package assign

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/heraldlb/herald/test/lab/build"
	"github.com/heraldlb/herald/test/lab/netlab"
)

// programsEnv hands what the outer process has built to the inner one, which has no network to build with.
const programsEnv = "HERALD_BENCH_PROGRAMS"

// sizesEnv may hold other numbers of Services than the usual ones, separated by commas.
const sizesEnv = "HERALD_BENCH_SERVICES"

type programs struct {
	Source     string // the checkout
	Binary     string // the control plane
	Helm       string
	Controller string
}

func TestMain(m *testing.M) {
	if !netlab.Inside() && os.Getenv(programsEnv) == "" && netlab.Available() == nil {
		if err := provide(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "building what is measured:", err)
			os.Exit(1)
		}
	}
	netlab.Main(m)
}

func provide(ctx context.Context) error {
	source, err := build.Source(ctx)
	if err != nil {
		return err
	}
	o := build.Options{Source: source, Progress: os.Stderr}
	control, err := build.MakeControlPlane(ctx, o)
	if err != nil {
		return err
	}
	herald, err := build.MakeHerald(ctx, o)
	if err != nil {
		return err
	}
	text, err := json.Marshal(programs{source, control.Binary, control.Helm, filepath.Join(herald, "herald-controller")})
	if err != nil {
		return err
	}
	return os.Setenv(programsEnv, string(text))
}

func built(t *testing.T) programs {
	t.Helper()
	var p programs
	if err := json.Unmarshal([]byte(os.Getenv(programsEnv)), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// sizes returns the numbers of Services to measure with.
func sizes(t *testing.T) []int {
	t.Helper()
	text := os.Getenv(sizesEnv)
	if text == "" {
		text = "5000,10000"
	}
	var out []int
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 100 {
			t.Fatalf("%s=%s: give numbers of at least 100, separated by commas", sizesEnv, text)
		}
		out = append(out, n)
	}
	return out
}
