package devstack

import (
	"testing"
	"time"
)

// Eventually calls check until it returns nil. When it still fails after the deadline, the test fails with
// the last error. It waits 2 ms at first and up to 100 ms between calls, and calls check at least twice.
func Eventually(t testing.TB, deadline time.Duration, check func() error) {
	t.Helper()
	end := time.Now().Add(deadline)
	for wait := 2 * time.Millisecond; ; wait = min(wait*2, 100*time.Millisecond) {
		last := time.Now().After(end)
		err := check()
		if err == nil {
			return
		}
		if last {
			t.Fatalf("not within %s: %v", deadline, err)
		}
		time.Sleep(wait) //nolint:forbidigo // this is the polling with a deadline
	}
}
