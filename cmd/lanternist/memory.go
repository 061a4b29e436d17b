package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much may be allocated until the next collection, in percent of what is in use. Most of what the daemon has in
// use is bounded caches, and most of what it allocates is gone with its batch: at Go's 100 a large transaction would hold
// twice the memory for a few percent of CPU time.
const gcPercent = 50

// boundMemory has the process give memory back early, unless the environment says how (GOGC, GOMEMLIMIT).
func boundMemory() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
