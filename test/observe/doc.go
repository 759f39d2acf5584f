// Package observe reads the chart's dashboards and alerts, and the list of metrics in the docs, and tests that they fit each other: that
// dashboards are what Grafana takes, that alerts fire and clear as promtool plays them, that each alert has its runbook. Package live does
// the same with a real Prometheus in the laboratory.
package observe
