package deadletter

import (
	"sync"
	"time"
)

// ChangeKind is what happened to a letter.
type ChangeKind string

// What happens to letters.
const (
	Parked    ChangeKind = "parked" // or parked again
	Resolved  ChangeKind = "resolved"
	Discarded ChangeKind = "discarded"
)

// Change is something that happened to a letter.
type Change struct {
	Sequence uint64     `json:"sequence"` // one more each time, since the store was opened
	Kind     ChangeKind `json:"kind"`
	Time     time.Time  `json:"time"`
	Letter   Letter     `json:"letter"` // as it is, or was; without its payload, and with the beginning of its reason
}

// What is kept of the last changes.
const (
	changesKept       = 1024
	changeReasonBytes = 1 << 10
)

// changes remembers the last ones. Its methods are safe for concurrent use.
type changes struct {
	mu      sync.Mutex
	ring    []Change
	next    uint64        // sequence of the next one
	changed chan struct{} // closed at the next change
}

func newChanges() changes { return changes{next: 1, changed: make(chan struct{})} }

func (c *changes) add(kind ChangeKind, l *Letter) {
	kept := *l
	kept.Payload, kept.Event = nil, nil
	kept.Reason = clip(kept.Reason, changeReasonBytes)
	c.mu.Lock()
	defer c.mu.Unlock()
	one := Change{Sequence: c.next, Kind: kind, Time: microseconds(time.Now()), Letter: kept}
	if len(c.ring) < changesKept {
		c.ring = append(c.ring, one)
	} else {
		c.ring[(c.next-1)%changesKept] = one
	}
	c.next++
	close(c.changed)
	c.changed = make(chan struct{})
}

// Changes are those that came after the one of a sequence, as far as they are remembered: missed says that there were others before. next
// is the sequence of the last change that there was; changed is closed when there is another.
func (s *Store) Changes(after uint64) (some []Change, last uint64, missed bool, changed <-chan struct{}) {
	c := &s.changes
	c.mu.Lock()
	defer c.mu.Unlock()
	last = c.next - 1
	if after >= last {
		return nil, last, false, c.changed
	}
	first := c.next - uint64(len(c.ring))
	missed = after+1 < first
	for n := max(after+1, first); n < c.next; n++ {
		some = append(some, c.at(n))
	}
	return some, last, missed, c.changed
}

// at is the change of a sequence that is remembered. The caller holds mu.
func (c *changes) at(sequence uint64) Change { return c.ring[(sequence-1)%changesKept] }
