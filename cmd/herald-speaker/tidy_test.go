package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestTidy(t *testing.T) {
	for _, tt := range []struct {
		name       string
		ready, end time.Duration
		freed      int
	}{
		{"never ready", time.Hour, time.Minute, 0},
		{"ends before its time", time.Second, time.Second + tidyAfter/2, 0},
		{"once", time.Second, time.Hour, 1},
		{"at once", 0, time.Minute, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, freed := time.Now(), 0
				ctx, cancel := context.WithTimeout(t.Context(), tt.end)
				defer cancel()
				tidy(ctx, func() bool { return time.Since(began) >= tt.ready }, func() { freed++ })
				if freed != tt.freed || time.Since(began) != tt.end {
					t.Errorf("freed %d times and returned after %s, want %d and %s", freed, time.Since(began), tt.freed, tt.end)
				}
			})
		})
	}
}
