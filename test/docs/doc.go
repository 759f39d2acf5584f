// Package docs reads README.md and docs/ as a user would, and checks what can be checked without a cluster: links lead somewhere, examples are
// accepted and do what they are for, commands and fields exist, and tables that repeat what the chart says repeat it truly.
package docs
