//go:build !race

package e2e

// buildFlags build the binary as the test is built.
var buildFlags []string

// busyRate is how many transactions per second the traffic makes where it is to keep the daemon busy and not to drown
// it.
const busyRate = 150
