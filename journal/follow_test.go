package journal

import (
	"testing"
	"time"
)

// TestTimesOfTheJournalDoNotFall although the clocks, ours and the source's, go back.
func TestTimesOfTheJournalDoNotFall(t *testing.T) {
	last := beginning()
	last.appended = time.Now().Add(time.Hour).UnixMicro()
	last.highestCommit = epoch.Add(time.Minute).UnixMicro()
	earlier, later := transaction(1, 1), transaction(2, 1) // a second and two after the epoch
	h, err := follow(last, []Part{earlier, later})
	if err != nil {
		t.Fatal(err)
	}
	if h.appended != last.appended {
		t.Errorf("appended at %s, after one appended at %s", h.time(), last.time())
	}
	if h.highestCommit != last.highestCommit || h.lowestCommit != earlier.CommitTime.UnixMicro() {
		t.Errorf("commit times %d-%d", h.lowestCommit, h.highestCommit)
	}
	later.CommitTime = epoch.Add(2 * time.Minute)
	third := transaction(3, 1)
	if h, err = follow(last, []Part{earlier, later, third}); err != nil || h.highestCommit != later.CommitTime.UnixMicro() {
		t.Errorf("highest commit time %d, %v", h.highestCommit, err)
	}
}
