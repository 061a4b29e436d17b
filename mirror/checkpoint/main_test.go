package checkpoint

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"gocloud.dev/blob"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/bucket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store in a folder, and a folder of files to be stored.
type world struct {
	*Store
	t      *testing.T
	root   string // of the bucket
	dir    string // of the files
	bucket *blob.Bucket
}

func newWorld(t *testing.T, cfg Config) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir(), dir: t.TempDir()}
	var err error
	if w.bucket, err = bucket.Open(t.Context(), "file://"+w.root, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.bucket.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Store = New(func(context.Context) (*blob.Bucket, error) { return w.bucket, nil }, "j", cfg, slog.New(slog.DiscardHandler))
	return w
}

// files makes the folder hold exactly these files.
func (w *world) files(contents map[string]string) {
	w.t.Helper()
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Fatal(err)
	}
	for name, text := range contents {
		path := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) put(offset event.Offset) Stored {
	w.t.Helper()
	stored, err := w.Put(w.t.Context(), w.dir, Manifest{Offset: offset, Made: time.Now().UTC()}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return stored
}

func (w *world) list() []*Manifest {
	w.t.Helper()
	list, err := w.List(w.t.Context())
	if err != nil || len(list.Damaged) > 0 {
		w.t.Fatalf("%v, %v", err, list.Damaged)
	}
	return list.Manifests
}

// objects are the paths of all that is under a folder of the bucket.
func (w *world) objects(folder string) []string {
	w.t.Helper()
	var paths []string
	for _, pattern := range []string{"*", "*/*"} {
		some, err := filepath.Glob(filepath.Join(w.root, "mirror/j", folder, pattern))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, path := range some {
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// age makes everything that is stored seem to be so much older.
func (w *world) age(by time.Duration) {
	w.t.Helper()
	for _, folder := range []string{"objects", "removed", "checkpoints"} {
		for _, path := range w.objects(folder) {
			info, err := os.Stat(path)
			if err == nil {
				err = os.Chtimes(path, info.ModTime().Add(-by), info.ModTime().Add(-by))
			}
			if err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// restored are the files that a copy gives back.
func (w *world) restored(m *Manifest) map[string]string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "restored")
	if err := w.Restore(w.t.Context(), m, dir, nil); err != nil {
		w.t.Fatal(err)
	}
	files, err := filesOf(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	contents := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Path))
		if err != nil {
			w.t.Fatal(err)
		}
		contents[f.Path] = string(text)
	}
	return contents
}
