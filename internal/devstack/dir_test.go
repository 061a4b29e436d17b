package devstack

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSweepRemovesOnlyWhatDeadStacksLeft(t *testing.T) {
	base := openFolder(t)
	mine := filepath.Join(base, "stack-of-papers") // looks like one of ours, is not
	dead := filepath.Join(base, "stack-dead")
	for _, dir := range []string{mine, dead} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dead, lockFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	alive, err := newDir(base, "stack-*")
	if err != nil {
		t.Fatal(err)
	}
	next, err := newDir(base, "stack-*")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{mine: true, dead: false, alive.path: true, next.path: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: error %v, must exist: %v", path, err, want)
		}
	}
	for _, d := range []*stackDir{alive, next} {
		if err := d.remove(); err != nil {
			t.Error(err)
		}
		mustVanish(t, d.path)
	}
}

func TestFolderOfAnotherIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := checkOwned(dir); err != nil {
		t.Errorf("our own: %v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := checkOwned(dir); err == nil {
		t.Error("a folder that others can write to was accepted")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if err := checkOwned(link); err == nil {
		t.Error("a link was accepted")
	}
}

func TestRootNeedsFoldersThatNobodyCanReach(t *testing.T) {
	acc, err := serviceAccount()
	if err != nil {
		t.Fatal(err)
	}
	if acc.credential == nil {
		t.Skip("services run as ourselves")
	}
	closed := filepath.Join(openFolder(t), "closed")
	open := filepath.Join(closed, "open")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if acc.canReach(open) || !acc.canReach(filepath.Dir(closed)) {
		t.Errorf("reach %s: %v, %s: %v", open, acc.canReach(open), filepath.Dir(closed), acc.canReach(filepath.Dir(closed)))
	}
	got, err := ownFolder(open, "devstack-test-own")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(got)
	if got != "/var/tmp/devstack-test-own" {
		t.Errorf("chose %s", got)
	}
	if _, err := Start(t.Context(), Options{Dir: open}); err == nil {
		t.Error("a stack was started in a folder that its services cannot reach")
	}
}
