package projectors

import (
	"testing"
	"time"
)

func TestElapsed(t *testing.T) {
	now := time.Now()
	if got := elapsed(now, now.Add(time.Second)); got != time.Second {
		t.Errorf("%v", got)
	}
	// A machine that was suspended: only the wall clock went on.
	if got := elapsed(now, now.Round(0).Add(time.Hour)); got != time.Hour {
		t.Errorf("suspended: %v", got)
	}
}
