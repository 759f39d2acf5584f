// Package live shows dashboards and alerts at work: in the laboratory a real Prometheus finds Herald's pods as the chart's PodMonitor says, takes
// the alerts of its PrometheusRule and the panels of its ConfigMaps, and is asked every expression of them while faults are provoked.
package live
