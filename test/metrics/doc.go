// Package metrics checks that docs/metrics.md says of the daemons' metrics what they are.
package metrics
