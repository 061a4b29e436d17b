package mirror

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lanternist/lanternist/event"
)

// TestCheckpoint: what is copied is a mirror of its own, at the progress that was told, whatever happens to the first.
func TestCheckpoint(t *testing.T) {
	r := &registry{}
	s := r.define(1, "a", "id", "v")
	other := r.define(2, "b", "id", "v")
	m := open(t, r)
	loadAll(t, m, s)
	must(t, m.EnsureIndexes(t.Context(), []Index{{OID: 1, Columns: []string{"v"}}}))
	commit(t, m, 10, insert(s, 5, "1", "x"), insert(s, 5, "2", "x"), insert(other, 5, "1", "y"))

	dir := filepath.Join(t.TempDir(), "copy")
	c, err := m.Checkpoint(t.Context(), dir)
	must(t, err)
	if c.Progress.Offset != 10 || c.Progress.LSN != 6 {
		t.Errorf("the copy is at %+v", c.Progress)
	}
	if len(c.Tables) != 2 || !c.Tables[0].Complete || c.Tables[0].Rows != 2 || c.Tables[1].Complete {
		t.Errorf("tables: %+v", c.Tables)
	}
	want := dump(t, m, 1)
	commit(t, m, 20, update(s, 7, "1", "z"), remove(s, 7, "2"))

	restored, err := Open(Config{Dir: dir}, r, slog.New(slog.DiscardHandler))
	must(t, err)
	defer func() { must(t, restored.Close()) }()
	if progress, _ := restored.Progress(); progress != c.Progress || !restored.Loaded(1) || restored.Loaded(2) {
		t.Errorf("the copy opens at %+v", progress)
	}
	if got := dump(t, restored, 1); !slices.Equal(got, want) {
		t.Errorf("the copy has %q, want %q", got, want)
	}
	commit(t, restored, 20, update(s, 7, "1", "z"), remove(s, 7, "2"))
	if got, want := dump(t, restored, 1), dump(t, m, 1); !slices.Equal(got, want) {
		t.Errorf("the copy goes on to %q, the mirror to %q", got, want)
	}
	if got := lookup(t, restored, Index{OID: 1, Columns: []string{"v"}}, "x"); len(got) != 0 {
		t.Errorf("the index has %q", got)
	}
	if _, err := m.Checkpoint(t.Context(), dir); err == nil {
		t.Error("a folder that is there was written to")
	}
}

// TestCheckpointBetweenTransactions: inside a large transaction a checkpoint waits for its end.
func TestCheckpointBetweenTransactions(t *testing.T) {
	r := &registry{}
	s := r.define(1, "a", "id", "v")
	m := open(t, r)
	loadAll(t, m, s)
	commit(t, m, 10, insert(s, 5, "1", "x"))
	part := func(offset event.Offset, whole bool, value string) {
		b := m.Begin()
		defer b.Discard()
		must(t, b.Apply(update(s, 8, "1", value)))
		must(t, b.Commit(offset, 9, whole))
	}
	part(11, false, "half")
	dir := filepath.Join(t.TempDir(), "copy")
	done := make(chan error, 1)
	var c *Checkpoint
	go func() {
		var err error
		c, err = m.Checkpoint(t.Context(), dir)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("a checkpoint was made inside a transaction: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	part(12, true, "whole")
	must(t, <-done)
	if c.Progress.Offset != 12 {
		t.Errorf("the copy is at %v", c.Progress.Offset)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}
