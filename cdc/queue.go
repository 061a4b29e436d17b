package cdc

import "sync"

// queue hands received bytes from the goroutine that reads the network to the one that decodes, so that the
// network is drained while a delivery is being made durable. It is bounded: a full queue makes the reader, and
// so in the end the server, wait.
type queue struct {
	limit int

	mu       sync.Mutex
	segments [][]byte
	bytes    int
	closed   error // why nothing more will come

	ready chan struct{} // has a token when there may be something to take
	room  chan struct{} // has a token when there may be room
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// push appends a segment, waiting for room until stop. An empty queue takes a segment of any size.
func (q *queue) push(stop <-chan struct{}, segment []byte) bool {
	for {
		q.mu.Lock()
		if q.bytes == 0 || q.bytes+len(segment) <= q.limit {
			q.segments = append(q.segments, segment)
			q.bytes += len(segment)
			q.mu.Unlock()
			signal(q.ready)
			return true
		}
		q.mu.Unlock()
		select {
		case <-q.room:
		case <-stop:
			return false
		}
	}
}

// close tells the taker that nothing more will come, and why. What is in the queue is still taken.
func (q *queue) close(why error) {
	q.mu.Lock()
	q.closed = why
	q.mu.Unlock()
	signal(q.ready)
}

// take replaces spare by everything that is waiting. Without anything, err says why nothing will come any more,
// or is nil when the caller should wait for q.ready.
func (q *queue) take(spare [][]byte) (segments [][]byte, err error) {
	clear(spare)
	q.mu.Lock()
	segments, q.segments, q.bytes = q.segments, spare[:0], 0
	if len(segments) == 0 {
		err = q.closed
	}
	q.mu.Unlock()
	signal(q.room)
	return segments, err
}

// signal leaves a token in a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
