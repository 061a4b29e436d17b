//go:build faultpoint

package faultpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Enabled says that the process can be ended.
const Enabled = true

var (
	chosen, nth = parse(os.Getenv(Variable))
	hits        atomic.Int64
	holds       = os.Getenv(VariableHold)
)

// holdPoll is how often somebody who is held looks whether he is to go on.
const holdPoll = 2 * time.Millisecond

// hold waits when this is a place to be held at.
func hold(place []string) {
	if holds == "" {
		return
	}
	file := filepath.Join(holds, HoldFile(place...))
	if os.Rename(file, file+".held") != nil {
		return // it is not there
	}
	for {
		if _, err := os.Stat(file + ".held"); err != nil {
			return
		}
		time.Sleep(holdPoll)
	}
}

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
	hold(place)
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

// Error is the error that an operation has to fail with, nil for none. The folder that VariableFaults names has a file for each place
// that is to fail, its elements joined by dots: the file says "eio", or how long the operation has to take, like "200ms".
func Error(place ...string) error {
	dir := os.Getenv(VariableFaults)
	if dir == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, strings.Join(place, ".")))
	if err != nil {
		return nil //nolint:nilerr // there is no such fault now
	}
	fault := strings.TrimSpace(string(text))
	if took, err := time.ParseDuration(fault); err == nil {
		time.Sleep(took)
		return nil
	}
	return fmt.Errorf("%s: %w", strings.Join(place, " "), syscall.EIO)
}
