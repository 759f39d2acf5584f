// Package chart checks the Helm chart without a cluster: with the helm command that go.tool.mod pins.
package chart
