package stream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob"
	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/archive"
	"github.com/lanternist/lanternist/projectors"
)

// bordered is a world most of whose past is in an archive and not in the journal any more, and the archive's folder.
func bordered(t *testing.T) (*world, string) {
	t.Helper()
	dir := t.TempDir()
	store, err := bucket.Open(t.Context(), "file://"+dir, "")
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	w := newWorld(t, journal.Config{CacheBytes: 1, Retention: journal.Retention{Size: 1 << 20}})
	id, err := journal.ParseID(w.journal.Identity())
	must(t, err)
	past := archive.New(func(context.Context) (*blob.Bucket, error) { return store, nil }, id, quiet)
	must(t, past.Load(t.Context()))
	w.journal.Attach(past)
	archiver := archive.NewArchiver(archive.Config{FileSize: 128 << 10, BlockSize: 16 << 10}, past, w.journal, tables{}, quiet)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = archiver.Run(ctx) // until it is stopped; that it has written is looked at
	}()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for w.journal.Retained() < 60 { // waits for the archiver, when the journal is full
		var chunks []chunk
		for n := 1 + r.IntN(3); n > 0; n-- {
			c := chunk{events: r.IntN(4), part: n == 1 && r.IntN(3) == 0, size: r.IntN(16 << 10), late: time.Duration(r.IntN(4000)-2000) * time.Millisecond}
			if c.part {
				c.events++
			}
			chunks = append(chunks, c)
		}
		w.append(chunks...)
	}
	w.append(chunk{events: 1}) // ends a transaction that goes on
	archiver.Request()
	eventually(t, func() error {
		if has, err := archiver.Range(); err != nil || has.Last+1 < w.journal.Retained() {
			return fmt.Errorf("the archive ends at %d, the journal begins at %d: %w", has.Last, w.journal.Retained(), err)
		}
		return nil
	})
	stop()
	<-ended
	if w.journal.First() != 1 {
		t.Fatalf("what there is begins with batch %d", w.journal.First())
	}
	return w, dir
}

// Nobody who reads a range sees where the archive ends and the journal begins.
func TestRangesAcrossTheArchiveBorder(t *testing.T) {
	w, _ := bordered(t)
	f := newFile()
	p := w.projector(f, func(c *Config) { c.BatchEvents = 50 })
	rapid.Check(t, func(rt *rapid.T) { checkRange(rt, w, p, f, randomBound(rt, w), randomBound(rt, w)) })

	// From a time that only the archive has, to one that only the journal has.
	border := w.journal.Retained()
	from, to := slices.IndexFunc(w.all, func(x *transaction) bool { return len(x.events) > 0 && x.events[0].Sequence() >= border-20 }), len(w.all)-3
	f.again = nil
	result, err := p.Replay(t.Context(), projectors.ReplayRange{From: w.all[from].events[0], Since: w.all[from].at, Until: w.all[to].at}, nil)
	must(t, err)
	want := w.offsets(func(x *transaction) bool {
		return x.end > w.all[from].events[0] && !x.at.Before(w.all[from].at) && !x.at.After(w.all[to].at)
	})
	_, again := f.has(t)
	same(t, "across the border", again, want)
	if first, last := want[0].Sequence(), want[len(want)-1].Sequence(); first >= border || last < border || result.Events < int64(len(want)) {
		t.Errorf("batches %d to %d are not across the border at %d: %+v", first, last, border, result)
	}
}

// A projector that begins in the past goes from the archive into the journal, and on with what comes.
func TestStartInTheArchive(t *testing.T) {
	w, _ := bordered(t)
	f := newFile()
	p := w.projector(f, func(c *Config) { c.Start, c.BatchEvents = AtLSN(w.all[10].lsn), 100 })
	stop := w.run(p)
	w.append(chunk{events: 2})
	want := w.offsets(func(x *transaction) bool { return x.lsn >= w.all[10].lsn })
	same(t, "handled", f.reach(t, len(want)), want)
	_ = stop()
}

// A flipped byte in a file of the archive ends a replay with the file's name and the range that cannot be read. Nothing after it
// is handed on.
func TestReplayMeetsADamagedFile(t *testing.T) {
	w, dir := bordered(t)
	files := archiveFiles(t, dir)
	damaged := files[len(files)/3]
	data, err := os.ReadFile(damaged)
	must(t, err)
	data[len(data)/3] ^= 0x04
	must(t, os.WriteFile(damaged, data, 0o600))
	reopen(t, w, dir)

	f := newFile()
	p := w.projector(f)
	_, err = p.Replay(t.Context(), projectors.ReplayRange{}, nil)
	var corrupt *journal.CorruptError
	if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), filepath.Base(damaged)) {
		t.Fatalf("got %v, want an error that names %s", err, damaged)
	}
	if !strings.Contains(err.Error(), fmt.Sprint(corrupt.From)) || corrupt.To >= w.journal.Retained() {
		t.Errorf("the range is not named: %v", err)
	}
	all := w.offsets(everything)
	_, again := f.has(t)
	if len(again) == 0 || len(again) >= len(all) {
		t.Fatalf("%d events of %d", len(again), len(all))
	}
	same(t, "before the damage", again, all[:len(again)])
	if last := again[len(again)-1].Sequence(); last+1 != corrupt.From && all[len(again)].Sequence() < corrupt.From {
		t.Errorf("it ended after batch %d, the damage begins at %d", last, corrupt.From)
	}
	// What is after the damage can be had by itself.
	f.again = nil
	after := slices.IndexFunc(w.all, func(x *transaction) bool { return len(x.events) > 0 && x.events[0].Sequence() > corrupt.To })
	_, err = p.Replay(t.Context(), projectors.ReplayRange{From: w.all[after].events[0]}, nil)
	must(t, err)
	_, again = f.has(t)
	same(t, "after the damage", again, all[len(all)-len(again):])
	// A live projector stops at the damage, too, and says what it met.
	err = p.Run(t.Context())
	if projectors.Class(err) != projectors.Fatal || !strings.Contains(err.Error(), filepath.Base(damaged)) {
		t.Errorf("it ran into the damage: %v", err)
	}
}

// reopen has the archive read as by a program that has read nothing of it yet.
func reopen(t *testing.T, w *world, dir string) {
	t.Helper()
	store, err := bucket.Open(t.Context(), "file://"+dir, "")
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	id, err := journal.ParseID(w.journal.Identity())
	must(t, err)
	past := archive.New(func(context.Context) (*blob.Bucket, error) { return store, nil }, id, quiet)
	must(t, past.Load(t.Context()))
	w.journal.Attach(past)
}

func archiveFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, ".attrs") {
			files = append(files, path)
		}
		return err
	}))
	if len(files) < 4 {
		t.Fatalf("the archive has only %q", files)
	}
	slices.Sort(files)
	return files
}
