package archive

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/journal"
)

// An archiver is started and stopped at random moments: each batch is in the archive once, in order.
func TestArchiverIsStartedAndStoppedAtRandomMoments(t *testing.T) {
	w := newWorld(t, memoryStore(t), journal.Retention{})
	for range 60 {
		w.append(1+w.random.IntN(3), 2, 200)
		ctx, cancel := context.WithCancel(t.Context())
		r := w.archiver(Config{FileSize: 1000})
		var running sync.WaitGroup
		running.Go(func() { _ = r.Run(ctx) })
		r.Request()
		<-time.After(time.Duration(w.random.IntN(2000)) * time.Microsecond)
		cancel()
		running.Wait()
	}
	w.archiveAll(Config{FileSize: 1000})
	w.check()
}
