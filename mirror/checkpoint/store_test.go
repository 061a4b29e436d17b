package checkpoint

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestShared: what copies share is stored once, and each gives back what it was made of.
func TestShared(t *testing.T) {
	w := newWorld(t, Config{})
	first := map[string]string{"000001.sst": strings.Repeat("a", 1000), "MANIFEST-1": "one", "deep/er": "x", "empty": ""}
	w.files(first)
	a := w.put(5)
	if a.Written < 1000 || a.Size() != 1004 {
		t.Errorf("the first copy wrote %d of %d bytes", a.Written, a.Size())
	}
	second := map[string]string{"000001.sst": strings.Repeat("a", 1000), "000002.sst": strings.Repeat("a", 1000), "MANIFEST-1": "two"}
	w.files(second)
	b := w.put(9)
	if b.Written >= 1000 {
		t.Errorf("the second copy wrote %d bytes", b.Written)
	}
	list := w.list()
	if len(list) != 2 || list[0].Name() != a.Name() || list[1].Name() != b.Name() {
		t.Fatalf("listed are %v", list)
	}
	for i, want := range []map[string]string{first, second} {
		if got := w.restored(list[i]); !maps.Equal(got, want) {
			t.Errorf("copy %d gives %v", i, got)
		}
		if err := w.Verify(t.Context(), list[i], nil); err != nil {
			t.Error(err)
		}
	}
}

// TestDamage: a byte that is not what it was, what is cut off and what is gone are named, in files and in manifests.
func TestDamage(t *testing.T) {
	for name, change := range map[string]func(path string, text []byte) error{
		"flipped": func(path string, text []byte) error { text[len(text)/2] ^= 4; return os.WriteFile(path, text, 0o600) },
		"cut off": func(path string, text []byte) error { return os.WriteFile(path, text[:len(text)-1], 0o600) },
		"longer":  func(path string, text []byte) error { return os.WriteFile(path, append(text, 0), 0o600) },
		"gone":    func(path string, _ []byte) error { return os.Remove(path) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.files(map[string]string{"1.sst": strings.Repeat("ab", 5000), "2.sst": "cd"})
			w.put(5)
			w.files(map[string]string{"2.sst": "cd"})
			w.put(6)
			m := w.list()[0]
			hit := func(path string) {
				t.Helper()
				text, err := os.ReadFile(path)
				if err == nil {
					err = change(path, text)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			object := filepath.Join(w.root, w.object(m.Files[0].SHA256))
			hit(object)
			var damaged *DamagedError
			err := w.Restore(t.Context(), m, filepath.Join(t.TempDir(), "r"), nil)
			if !errors.As(err, &damaged) || damaged.File != "1.sst" || damaged.Checkpoint != m.Name() || !strings.Contains(err.Error(), "1.sst") {
				t.Errorf("restore: %v", err)
			}
			if err := w.Verify(t.Context(), m, nil); !errors.As(err, &damaged) || damaged.File != "1.sst" {
				t.Errorf("verify: %v", err)
			}
			// The other one has nothing of it. A new copy of the same contents mends what is gone or cut off.
			if got := w.restored(w.list()[1]); got["2.sst"] != "cd" {
				t.Errorf("the other copy gives %v", got)
			}
			w.files(map[string]string{"9.sst": strings.Repeat("ab", 5000)})
			w.put(7)
			if name != "flipped" {
				w.restored(m)
			}
			if name == "gone" {
				return // a manifest that is gone is none
			}
			hit(w.objects("checkpoints")[0])
			list, err := w.List(t.Context())
			if err != nil || len(list.Damaged) != 1 || len(list.Manifests) != 2 || !strings.Contains(list.Damaged[0].Error(), "its manifest") {
				t.Errorf("list: %+v, %v", list, err)
			}
			if _, err := w.Prune(t.Context(), 1); err != nil && !strings.Contains(err.Error(), "contents are kept") {
				t.Error(err)
			}
		})
	}
}

// TestPrune: old copies go, and what only they had goes after the grace; what a writer stored whose manifest is still to come
// stays as long.
func TestPrune(t *testing.T) {
	w := newWorld(t, Config{Grace: time.Hour})
	for _, only := range []string{"one", "two", "three"} {
		w.files(map[string]string{"shared": "shared", "only": only})
		w.put(5)
	}
	if n := len(w.objects("objects")); n != 4 {
		t.Fatalf("%d objects", n)
	}
	w.age(2 * time.Hour)
	pruned, err := w.Prune(t.Context(), 2)
	if err != nil || pruned.Checkpoints != 1 || pruned.Objects != 0 {
		t.Errorf("pruned %+v, %v: the contents of a copy that was removed just now must stay", pruned, err)
	}
	if list := w.list(); len(list) != 2 {
		t.Fatalf("%d copies are left", len(list))
	}
	// A writer that counts on what it saw a moment ago, and one that crashed.
	w.files(map[string]string{"only": "one"})
	back := w.put(6)
	w.files(map[string]string{"left": "by a crash"})
	opened, err := w.at(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.store(t.Context(), filepath.Join(w.dir, "left"), hashed(t, w, "left"), nil); err != nil {
		t.Fatal(err)
	}
	if pruned, err := w.Prune(t.Context(), 9); err != nil || pruned != (Pruned{}) {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	w.age(2 * time.Hour)
	pruned, err = w.Prune(t.Context(), 9)
	if err != nil || pruned.Objects != 1 || pruned.Checkpoints != 0 {
		t.Errorf("pruned %+v, %v: what a crash left goes after the grace, and nothing else", pruned, err)
	}
	if n := len(w.objects("removed")); n != 0 {
		t.Errorf("%d removed manifests are remembered", n)
	}
	for _, m := range w.list() {
		w.restored(m)
	}
	if pruned, err = w.Prune(t.Context(), 1); err != nil || pruned.Checkpoints != 2 {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	w.age(2 * time.Hour)
	if pruned, err = w.Prune(t.Context(), 1); err != nil || pruned.Objects != 3 {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	if list := w.list(); len(list) != 1 || list[0].Name() != back.Name() || w.restored(list[0])["only"] != "one" {
		t.Errorf("left are %v", list)
	}
}

func hashed(t *testing.T, w *world, name string) *File {
	t.Helper()
	info, err := os.Stat(filepath.Join(w.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	f := &File{Path: name, Size: info.Size()}
	if err := f.hash(filepath.Join(w.dir, name)); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestSlow: a writer that takes longer than what it counts on is kept for stores no manifest.
func TestSlow(t *testing.T) {
	w := newWorld(t, Config{Grace: time.Nanosecond})
	w.files(map[string]string{"a": "a"})
	if _, err := w.Put(t.Context(), w.dir, Manifest{}, nil); !errors.Is(err, errSlow) {
		t.Errorf("got %v", err)
	}
	if n := len(w.objects("checkpoints")); n != 0 {
		t.Errorf("%d manifests", n)
	}
}

// TestNames: a manifest cannot have files written outside of the folder.
func TestNames(t *testing.T) {
	for _, path := range []string{"../x", "/x", "a/../../x", ""} {
		m := Manifest{Format: format, Files: []File{{Path: path, SHA256: strings.Repeat("0", 64)}}}
		name, text, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(name, text); err == nil {
			t.Errorf("%q was taken", path)
		}
	}
}
