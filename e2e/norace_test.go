//go:build !race

package e2e

// buildFlags build the binary as the test is built.
var buildFlags []string

// busyRate is how many transactions per second the traffic makes where it is to keep the daemon busy and not to drown
// it.
const busyRate = 150

// raced says whether the binary has the race detector in it, which takes several times the memory.
const raced = false
