package segments

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft-wal/metadb"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/journaltest"
)

// TestForeignFiles: whatever is found in place of a journal's files, opening either names it, and changes no segment, or
// everything that was appended is read.
func TestForeignFiles(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string, list []segmentFile)
		whole bool // everything is read all the same
	}{
		{"a stray file", func(t *testing.T, dir string, _ []segmentFile) {
			must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("x"), 0o600))
		}, true},
		{"a stray folder", func(t *testing.T, dir string, _ []segmentFile) {
			must(t, os.Mkdir(filepath.Join(dir, "notes"), 0o700))
		}, true},
		{"a segment that is empty", func(t *testing.T, _ string, list []segmentFile) {
			must(t, os.WriteFile(list[0].path, nil, 0o600))
		}, false},
		{"a segment of something else", func(t *testing.T, _ string, list []segmentFile) {
			must(t, os.WriteFile(list[0].path, []byte(strings.Repeat("another program's ", 1000)), 0o600))
		}, false},
		{"a folder in place of a segment", func(t *testing.T, _ string, list []segmentFile) {
			must(t, os.Remove(list[0].path))
			must(t, os.Mkdir(list[0].path, 0o700))
		}, false},
		{"a segment in place of another", func(t *testing.T, _ string, list []segmentFile) {
			content, err := os.ReadFile(list[1].path)
			must(t, err)
			must(t, os.WriteFile(list[0].path, content, 0o600))
		}, false},
		{"metadata that is empty", func(t *testing.T, dir string, _ []segmentFile) {
			must(t, os.WriteFile(filepath.Join(dir, metadb.FileName), nil, 0o600))
		}, false},
		{"metadata of something else", func(t *testing.T, dir string, _ []segmentFile) {
			must(t, os.WriteFile(filepath.Join(dir, metadb.FileName), []byte(strings.Repeat("x", 40000)), 0o600))
		}, false},
		{"metadata that is gone", func(t *testing.T, dir string, _ []segmentFile) {
			must(t, os.Remove(filepath.Join(dir, metadb.FileName)))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := written(t, 60)
			list := files(t, dir)
			c.spoil(t, dir, list)
			last := list[len(list)-1].path
			before, err := os.ReadFile(last)
			must(t, err)
			err = readAll(t, dir, 60)
			switch {
			case c.whole && err != nil:
				t.Fatal(err)
			case !c.whole && err == nil:
				t.Fatal("nothing was noticed")
			case err != nil && !strings.Contains(err.Error(), dir) && !errors.Is(err, journal.ErrCorrupt):
				t.Errorf("the error names neither folder nor damage: %v", err)
			}
			t.Log(err)
			if after, err := os.ReadFile(last); err != nil || string(after) != string(before) {
				t.Errorf("the last segment was changed, or %v", err)
			}
		})
	}
}

// readAll opens a log and reads its entries 1..last.
func readAll(t *testing.T, dir string, last uint64) error {
	log, err := Open(dir, Config{SegmentSize: smallSegment}, discard())
	if err != nil {
		return err
	}
	defer log.Close()
	if _, got, err := log.Bounds(t.Context()); err != nil || got != last {
		return errors.Join(journal.ErrCorrupt, err)
	}
	for sequence := uint64(1); sequence <= last; sequence++ {
		entry, err := log.Read(t.Context(), sequence)
		if err != nil {
			return err
		}
		if string(entry) != string(journaltest.Entry(sequence)) {
			return errors.Join(journal.ErrCorrupt, errors.New("read as another"))
		}
	}
	return nil
}

// TestMetadataOfANewLogIsBegunAnew: a crash may have come while the metadata was made, before there was any segment.
func TestMetadataOfANewLogIsBegunAnew(t *testing.T) {
	for _, content := range []string{"", strings.Repeat("x", 40000)} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, metadb.FileName), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		log := openLog(t, dir)
		if err := log.Append(t.Context(), 1, journaltest.Entry(1)); err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if err := readAll(t, dir, 1); err != nil {
			t.Fatal(err)
		}
	}
}
