package control_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/internal/faults"
)

// TestFaultControlStoreDamaged damages each file of a store in several ways: overwritten in the middle, cut in half,
// emptied, removed. The store is then refused as damaged, or a read is, or it is what it was; it is never taken for another.
func TestFaultControlStoreDamaged(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "control-store-damaged", Area: "Journal",
		Fault:   "bytes of the control store's files change, or a file is cut or removed, while the daemon is down",
		Promise: "the start refuses, or the read of what is damaged does; no position, letter or schema version is taken for another or silently forgotten",
		Answer:  "put the folder back from a copy, or do as `lanternist run` says: `rm -r data/journal data/mirror data/control`, then `lanternist run`",
	})
	ways := map[string]func(path string, content []byte) error{
		"overwritten": func(path string, content []byte) error {
			for i := len(content) / 3; i < len(content)/3+max(1, len(content)/4) && i < len(content); i++ {
				content[i] ^= 0x5a
			}
			return os.WriteFile(path, content, 0o600)
		},
		"cut":     func(path string, content []byte) error { return os.WriteFile(path, content[:len(content)/2], 0o600) },
		"emptied": func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
		"removed": func(path string, _ []byte) error { return os.Remove(path) },
	}
	refused, unharmed := 0, 0
	for way, damage := range ways {
		for i := 0; ; i++ {
			dir := t.TempDir()
			if err := work(t.Context(), dir, vfs.Default, func(int) {}); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			if i == len(files) {
				break
			}
			content, err := os.ReadFile(files[i])
			if err != nil || len(content) == 0 {
				continue
			}
			if err := damage(files[i], content); err != nil {
				t.Fatal(err)
			}
			switch got, err := everything(t, dir); {
			case errors.Is(err, control.ErrDamaged):
				refused++
				if !strings.Contains(err.Error(), "control") {
					t.Errorf("the error does not say what is damaged: %v", err)
				}
			case err != nil:
				t.Logf("%s %s: refused, but not as damaged: %v", filepath.Base(files[i]), way, err)
				refused++
			case sameState(got, stateAfter(writes)):
				unharmed++
			default:
				t.Errorf("%s %s: the store holds %d keys, and not what was written", filepath.Base(files[i]), way, len(got))
			}
		}
	}
	if refused < 4 {
		t.Errorf("only %d damaged stores were refused", refused)
	}
	result.Notef("%d damaged stores refused, %d unharmed", refused, unharmed)
}

// everything is what a store holds.
func everything(t *testing.T, dir string) (map[string]string, error) {
	t.Helper()
	s, err := control.OpenPebble(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	got := map[string]string{}
	err = s.List(t.Context(), "", func(key string, value []byte) error { got[key] = string(value); return nil })
	return got, err
}
