package main

import (
	"os"
	"runtime/debug"

	"github.com/lanternist/lanternist/config"
)

// gcPercent is how much may be allocated until the next collection, in percent of what is in use. Most of what the daemon has in
// use is bounded caches, and most of what it allocates is gone with its batch: at Go's 100 a large transaction would hold
// twice the memory for a few percent of CPU time.
const gcPercent = 50

// recentEvents is what the journal keeps of the newest events in memory: the default of journal.Config.CacheBytes.
const recentEvents = 16 << 20

// memoryGoal is the memory that follows from a configuration: of what is alive at once as much again as garbage, and the mirror's
// cache, which is full and stays so.
func memoryGoal(c *config.Config) int64 {
	receiving := 16 * int64(c.Source.BatchBytes) // a batch of the journal with before-images, decoded and encoded
	return 2*(int64(c.Projectors.Memory)+recentEvents+receiving) + int64(c.Mirror.Cache)
}

// boundMemory has the process give memory back early, and the garbage collector work harder when it comes near the goal. That is no
// hard limit: a single huge row gets through. GOGC and GOMEMLIMIT in the environment go before it.
func boundMemory(c *config.Config) {
	limit := os.Getenv("GOMEMLIMIT")
	if os.Getenv("GOGC") == "" && limit == "" {
		debug.SetGCPercent(gcPercent)
	}
	if limit == "" {
		debug.SetMemoryLimit(memoryGoal(c))
	}
}
