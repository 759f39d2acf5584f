package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// heraldPackages are the programs of the image "herald", relative to the checkout.
func heraldPackages() []string {
	return []string{"./cmd/herald-controller", "./cmd/herald-speaker", "./cmd/kubectl-herald"}
}

// webPackages are the programs of the image "lab/web".
func webPackages() []string { return []string{"./test/lab/cmd/labweb"} }

// MakeHerald builds Herald's own programs and returns the directory that holds them. They are built on every call: the
// go command knows what is up to date, and then it takes about a second.
func MakeHerald(ctx context.Context, o Options) (string, error) {
	return o.programs(ctx, "Herald", "herald", heraldPackages())
}

// MakeWeb builds the laboratory's web server and returns the directory that holds it.
func MakeWeb(ctx context.Context, o Options) (string, error) {
	o.Race = false
	return o.programs(ctx, "the laboratory's web server", "web", webPackages())
}

// programs builds packages of this checkout into a directory of the cache that belongs to the checkout.
// A program is replaced by rename, so one that runs keeps running its old self.
func (o Options) programs(ctx context.Context, what, name string, packages []string) (string, error) {
	o, err := o.withDefaults(ctx)
	if err != nil {
		return "", err
	}
	present, err := existing(o.Source, packages)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(o.Cache, checkoutName(o.Source), name+"-"+platform()+raceSuffix(o.Race))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("the cache of built programs: %w", err)
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	t := target{what: what, dir: o.Source, output: dir + string(filepath.Separator), packages: present, race: o.Race}
	return dir, t.run(ctx, o.Progress)
}

// existing returns those of packages that the checkout has; that it has none is an error.
func existing(source string, packages []string) ([]string, error) {
	var present []string
	for _, pkg := range packages {
		if _, err := os.Stat(filepath.Join(source, pkg)); err == nil {
			present = append(present, pkg)
		}
	}
	if len(present) == 0 {
		return nil, fmt.Errorf("the checkout %s has none of %v", source, packages)
	}
	return present, nil
}

// checkoutName tells checkouts of one user apart.
func checkoutName(source string) string {
	return "checkout-" + shortHash(source)
}

func raceSuffix(race bool) string {
	if race {
		return "-race"
	}
	return ""
}
