package bucket

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
)

// stores are a folder and a store in memory.
func stores(t *testing.T) map[string]*blob.Bucket {
	folder, err := Open(t.Context(), "file://"+t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*blob.Bucket{"folder": folder, "memory": memblob.OpenBucket(nil)}
	t.Cleanup(func() {
		for name, b := range all {
			if err := b.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	return all
}

func TestAnObjectAppearsWhole(t *testing.T) {
	for name, b := range stores(t) {
		w, err := Create(t.Context(), b, "a/b/c")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, part := range []string{"one ", "two"} {
			if _, err := w.Write([]byte(part)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if there, err := b.Exists(t.Context(), "a/b/c"); there || err != nil {
			t.Errorf("%s: there before it is closed: %t, %v", name, there, err)
		}
		if err := w.Close(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if text, err := b.ReadAll(t.Context(), "a/b/c"); string(text) != "one two" || err != nil {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		again, err := Create(t.Context(), b, "a/b/c")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := again.Write([]byte("other")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := again.Close(); !errors.Is(err, ErrExists) {
			t.Errorf("%s: written twice: %v", name, err)
		}
		if text, err := b.ReadAll(t.Context(), "a/b/c"); string(text) != "one two" || err != nil {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestAnAbortedObjectDoesNotAppear(t *testing.T) {
	for name, b := range stores(t) {
		w, err := Create(t.Context(), b, "x/y")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := w.Write([]byte("half")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := w.Abort(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if w, err = Create(ctx, b, "x/y"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		cancel()
		if err := w.Close(); err == nil {
			t.Errorf("%s: closed although it was cancelled", name)
		}
		if there, err := b.Exists(t.Context(), "x/y"); there || err != nil {
			t.Errorf("%s: there: %t, %v", name, there, err)
		}
	}
}

func TestNothingIsLeftOfAnAbortedObject(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(t.Context(), "file://"+dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	w, err := Create(t.Context(), b, "x/y")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "x"))
	if err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}
