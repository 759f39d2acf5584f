// Command dashboards writes Grafana's dashboards of Herald, as JSON, into the directory given: make generate does that for the chart.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dashboards DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

// files returns the dashboards by the names of their files.
func files() (map[string][]byte, error) {
	all := make(map[string][]byte)
	for name, d := range map[string]dashboard{
		"overview.json": overview(), "layer2.json": layer2(), "bgp.json": bgp(), "internals.json": internals(),
	} {
		text, err := marshal(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = text
	}
	return all, nil
}

// write writes all dashboards into a directory that exists.
func write(dir string) error {
	all, err := files()
	if err != nil {
		return err
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
