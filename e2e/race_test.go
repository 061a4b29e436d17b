//go:build race

package e2e

// buildFlags build the binary as the test is built.
var buildFlags = []string{"-race"}

// busyRate is how many transactions per second the traffic makes where it is to keep the daemon busy and not to drown
// it: a binary with the race detector is several times slower.
const busyRate = 30

// raced says whether the binary has the race detector in it, which takes several times the memory.
const raced = true
