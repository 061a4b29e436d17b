package projectors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gocloud.dev/blob"

	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/archive"
)

// attach gives the source's journal the archive that is in a folder.
func (s *source) attach(dir string) *archive.Archive {
	s.t.Helper()
	store, err := bucket.Open(s.t.Context(), "file://"+dir, "")
	check(s.t, err)
	s.closers = append(s.closers, store.Close)
	id, err := journal.ParseID(s.journal.Identity())
	check(s.t, err)
	past := archive.New(func(context.Context) (*blob.Bucket, error) { return store, nil }, id, s.log)
	check(s.t, past.Load(s.t.Context()))
	s.journal.Attach(past)
	return past
}

// A replay of what has left the journal reads it from the archive, and goes on in the journal. A damaged file ends it.
func TestReplayAcrossTheArchiveBorder(t *testing.T) {
	view := compile(t, orderView)
	s, sink, dir := newEmptySource(t, journal.Config{CacheBytes: 1, Retention: journal.Retention{Size: 1 << 20}}, view), newMemory(), t.TempDir()
	past := s.attach(dir)
	for _, schema := range catalog {
		s.load(schema)
	}
	archiver := archive.NewArchiver(archive.Config{FileSize: 128 << 10, BlockSize: 16 << 10}, past, s.journal, catalog, s.log)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = archiver.Run(ctx) // until it is stopped; what it has written is looked at
	}()
	r := s.runner(view, sink)
	s.run(r)
	s.commit(insert(customers, "1", "Ada"))
	n := 0
	for ; s.journal.Retained() < 20; n++ {
		s.commit(insert(orders, fmt.Sprint(n), "1", strings.Repeat("x", 16<<10)))
	}
	s.live(r, s.commit(insert(orders, fmt.Sprint(n), "1", "last")))
	archiver.Request()
	eventually(t, "what has left the journal is in the archive", func() bool {
		has, err := archiver.Range()
		return err == nil && has.Last+1 >= s.journal.Retained()
	})
	stop()
	<-ended
	want := s.documents(view)
	if len(want) != n+1 || s.journal.First() >= s.journal.Retained() {
		t.Fatalf("%d documents of %d; there is something from batch %d on, in the journal from %d on", len(want), n+1, s.journal.First(), s.journal.Retained())
	}
	damage(sink, func(d map[string]memoryDocument) { clear(d) })
	result, err := r.Replay(t.Context(), ReplayRange{}, nil)
	check(t, err)
	if result.Events != int64(n)+2 || result.Batches != result.BatchesTotal {
		t.Errorf("%+v", result)
	}
	wantDocuments(t, sink, want)

	var damaged string
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && damaged == "" && !strings.HasSuffix(path, ".attrs") {
			damaged = path
		}
		return err
	}))
	data, err := os.ReadFile(damaged)
	check(t, err)
	data[len(data)/3] ^= 0x20
	check(t, os.WriteFile(damaged, data, 0o600))
	s.attach(dir)
	_, err = r.Replay(t.Context(), ReplayRange{}, nil)
	if corrupt, ok := errors.AsType[*journal.CorruptError](err); !ok || corrupt.To >= s.journal.Retained() || !strings.Contains(err.Error(), filepath.Base(damaged)) {
		t.Errorf("got %v, want one that names %s", err, damaged)
	}
}
