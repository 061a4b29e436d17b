package projectors

import (
	"context"
	"math"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// Memory bounds what the runners of one sink hold together: documents that are composed and not yet written, and batches of the
// journal that were read from disk. The runners of one sink in a process share one (Config.Memory). What waits for a
// sink never takes the memory of those who write to another.
//
// It is an account and no allocator. A worker reserves what its piece will probably take, from what documents of the view took
// before, and writes what it has composed when it gets no more. What may go beyond the bound is a single document for each worker,
// or a batch for each runner, that turns out to be larger than any was lately. It is safe for concurrent use.
type Memory struct {
	documents, batches account
}

// memoryWeight is how many times its size a document takes while it is on its way: composed, and in a request.
const memoryWeight = 2

// documentsShare is the part of the memory that is for documents; the rest is for batches.
const documentsShare = 0.75

// NewMemory makes a bound in bytes.
func NewMemory(bytes int64) *Memory {
	documents := int64(float64(bytes) * documentsShare)
	return &Memory{documents: newAccount(documents), batches: newAccount(bytes - documents)}
}

// MemoryStatus is what is reserved at one moment, and of how much, in bytes.
type MemoryStatus struct {
	Limit     int64 `json:"limit"`
	Documents int64 `json:"documents"`
	Batches   int64 `json:"batches"`
	Waiting   int64 `json:"waiting"` // workers and runners that wait for room
}

// Status is what is reserved now.
func (m *Memory) Status() MemoryStatus {
	return MemoryStatus{
		Limit: m.documents.size + m.batches.size, Documents: m.documents.held.Load(), Batches: m.batches.held.Load(),
		Waiting: m.documents.waiting.Load() + m.batches.waiting.Load(),
	}
}

// account is a bounded number of bytes. Who comes first gets them first.
type account struct {
	size    int64
	room    *semaphore.Weighted
	held    *atomic.Int64
	waiting *atomic.Int64
}

func newAccount(size int64) account {
	return account{size: size, room: semaphore.NewWeighted(size), held: new(atomic.Int64), waiting: new(atomic.Int64)}
}

// reservation is what one worker or runner has of an account. The zero value has nothing. It is not safe for concurrent use.
type reservation struct {
	account account
	bytes   int64
}

// reserve waits until there are so many bytes; what is more than all there are counts as all.
func (a account) reserve(ctx context.Context, bytes int64) (reservation, error) {
	bytes = min(max(bytes, 1), a.size)
	if !a.room.TryAcquire(bytes) {
		a.waiting.Add(1)
		err := a.room.Acquire(ctx, bytes)
		a.waiting.Add(-1)
		if err != nil {
			return reservation{}, context.Cause(ctx)
		}
	}
	a.held.Add(bytes)
	return reservation{a, bytes}, nil
}

// grow says whether there is as much as wanted, without waiting. It takes more than that when it can, so as not to be asked often.
func (r *reservation) grow(wanted, most int64) bool {
	if wanted <= r.bytes || r.bytes >= r.account.size {
		return true
	}
	for _, to := range []int64{min(max(2*r.bytes, wanted), max(most, wanted)), wanted} {
		more := min(to, r.account.size) - r.bytes
		if r.account.room.TryAcquire(more) {
			r.bytes += more
			r.account.held.Add(more)
			return true
		}
	}
	return false
}

func (r *reservation) release() {
	if r.bytes > 0 {
		r.account.room.Release(r.bytes)
		r.account.held.Add(-r.bytes)
		r.bytes = 0
	}
}

// sizes remembers how large things were lately. It is safe for concurrent use; its zero value knows nothing.
type sizes struct{ mean, largest atomic.Int64 }

// note adds one of a size. The mean follows; of the largest, a sixteenth is forgotten with each smaller one.
func (s *sizes) note(size int) {
	v := int64(size)
	average := s.mean.Load()
	if average == 0 {
		average = v
	}
	s.mean.Store(average + (v-average)/delayWeight)
	largest := s.largest.Load()
	s.largest.Store(max(v, largest-largest/16))
}

// expect is what so many will take together: a quarter more than the mean, and no less than the largest.
func (s *sizes) expect(n int) int64 {
	mean, largest := s.mean.Load(), s.largest.Load()
	if int64(n) > math.MaxInt64/4/max(mean, 1) {
		return math.MaxInt64 / 4
	}
	return max(largest, int64(n)*(mean+mean/4))
}
