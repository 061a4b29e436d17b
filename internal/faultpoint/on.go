//go:build faultpoint

package faultpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Enabled says that the process can be ended.
const Enabled = true

var (
	chosen, nth = parse(os.Getenv(Variable))
	hits        atomic.Int64
)

// parse splits "place#n". What is no number counts as 1.
func parse(text string) (place string, n int64) {
	place, count, _ := strings.Cut(text, "#")
	if n, err := strconv.ParseInt(count, 10, 64); err == nil {
		return place, n
	}
	return place, 1
}

// Hit ends the process if this is the place. The elements of its name are joined by slashes.
func Hit(place ...string) {
	if chosen == "" || strings.Join(place, "/") != chosen || hits.Add(1) != nth {
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic("faultpoint: " + err.Error())
	}
	select {} // the signal is on its way: nothing is done any more
}
