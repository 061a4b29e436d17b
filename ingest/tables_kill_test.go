package ingest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/mirror"
)

// What a child of TestKilledWhileTablesComeAndGo needs to know, in its environment.
const (
	killDir  = "LANTERNIST_INGEST_KILL_DIR"
	killURL  = "LANTERNIST_INGEST_KILL_URL"
	killName = "LANTERNIST_INGEST_KILL_NAME"
)

var killTables = []string{"public.t0", "public.t1", "public.t2"}

// TestKilledWhileTablesComeAndGo kills a process that adds and removes tables, and indexes of theirs, under traffic. What
// goes on in its folder must have exactly what is captured then.
func TestKilledWhileTablesComeAndGo(t *testing.T) {
	db := devstack.Postgres(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var names []string
	for _, qualified := range killTables {
		_, name, _ := strings.Cut(qualified, ".")
		names = append(names, name)
		db.Exec("CREATE TABLE "+name+" "+things, "INSERT INTO "+name+" SELECT i, i, repeat('y', 2000) FROM generate_series(1, 500) i")
	}
	d := newDeployment(t, db, killTables[0])
	writeNames(t, d.dir, d.cfg.Tables)
	traffic := startTraffic(t, db, names, seed)
	for range 5 {
		child := exec.Command(os.Args[0], "-test.run=^TestChildThatIsKilled$", "-test.v")
		child.Env = append(os.Environ(), killDir+"="+d.dir, killURL+"="+db.URL(), killName+"="+db.Name())
		var out lockedBuffer
		child.Stdout, child.Stderr = &out, &out
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- child.Wait() }()
		devstack.Eventually(t, time.Minute, func() error {
			select {
			case err := <-ended:
				t.Fatalf("the child ended by itself: %v\n%s", err, out.String())
			default:
			}
			if !strings.Contains(out.String(), "running") {
				return errors.New("the child does not run")
			}
			return nil
		})
		select {
		case err := <-ended:
			t.Fatalf("the child ended by itself: %v\n%s", err, out.String())
		case <-time.After(time.Duration(random.IntN(1200)) * time.Millisecond):
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-ended
		t.Logf("killed after %d steps, configured are %v", strings.Count(out.String(), "step"), readNames(t, d.dir))
	}
	d.cfg.Tables = readNames(t, d.dir)
	d.setup()
	d.open()
	defer d.close()
	tables := d.openTables()
	d.catalog = nil
	stop := d.begin()
	defer func() { stop() }()
	d.must(tables.Start(t.Context()))
	d.must(d.mirror.EnsureIndexes(t.Context(), indexesOf(tables)))
	n := traffic.end()
	rows := d.equal(db, tables)
	d.checkIndexes(tables)
	for _, have := range d.mirror.Tables() {
		if !slices.Contains(d.cfg.Tables, have.Name) {
			t.Errorf("the mirror has %+v, captured are %v", have, d.cfg.Tables)
		}
	}
	// All of them may come back, too.
	if _, err := tables.Add(t.Context(), killTables); err != nil {
		t.Fatal(err)
	}
	all := d.equal(db, tables)
	t.Logf("%d transactions, %d rows were captured in the end, %d are now, %d changes in the journal", n, rows, all, d.checkOnce())
}

// indexesOf are indexes of all captured tables.
func indexesOf(tables *Tables) (indexes []mirror.Index) {
	for _, s := range tables.Catalog() {
		indexes = append(indexes, mirror.Index{OID: s.OID, Columns: []string{"n"}})
	}
	return indexes
}

// checkIndexes looks every row up by its index.
func (d *deployment) checkIndexes(tables *Tables) {
	d.t.Helper()
	snapshot, err := d.mirror.Snapshot(d.t.Context())
	d.must(err)
	defer snapshot.Close()
	for _, ix := range indexesOf(tables) {
		rows, found := 0, map[string]bool{}
		d.must(snapshot.Scan(ix.OID, nil, func(key []byte, rec mirror.Record) error {
			rows++
			n := rec.Row.Column(rec.Schema.Column("n"))
			return snapshot.Lookup(ix, append(slices.Clone(n.Text), 0), func(key []byte, have mirror.Record) error {
				if string(have.Row.Column(have.Schema.Column("n")).Text) != string(n.Text) {
					d.t.Errorf("row %q is in the index at %q", key, n.Text)
				}
				found[string(key)] = true
				return nil
			})
		}))
		if len(found) != rows {
			d.t.Errorf("%d rows, %d of them in the index", rows, len(found))
		}
	}
}

// TestChildThatIsKilled is not a test by itself.
func TestChildThatIsKilled(t *testing.T) {
	if os.Getenv(killDir) == "" {
		t.Skip("run by TestKilledWhileTablesComeAndGo")
	}
	d := resumeDeployment(t, os.Getenv(killURL), os.Getenv(killName), os.Getenv(killDir))
	d.cfg.Tables = readNames(t, d.dir)
	d.setup()
	d.open()
	tables := d.openTables()
	d.catalog = nil
	stop := d.begin()
	defer func() { stop() }()
	d.must(tables.Start(t.Context()))
	fmt.Println("running")
	random := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	for i := 0; ; i++ {
		name := killTables[1+random.IntN(len(killTables)-1)]
		names := tables.Names()
		if slices.Contains(names, name) {
			writeNames(t, d.dir, slices.DeleteFunc(names, func(n string) bool { return n == name }))
			d.must(tables.Remove(t.Context(), []string{name}))
		} else {
			writeNames(t, d.dir, append(names, name))
			_, err := tables.Add(t.Context(), []string{name})
			d.must(err)
		}
		var indexing sync.WaitGroup
		for range 2 {
			indexing.Go(func() {
				if err := d.mirror.EnsureIndexes(t.Context(), indexesOf(tables)); err != nil {
					t.Error(err)
				}
			})
		}
		indexing.Wait()
		fmt.Println("step", i)
		if random.IntN(2) == 0 {
			d.must(d.mirror.EnsureIndexes(t.Context(), nil))
		}
	}
}

// readNames and writeNames are the configuration of the captured tables.
func readNames(t *testing.T, dir string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "tables"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

func writeNames(t *testing.T, dir string, names []string) {
	t.Helper()
	file := filepath.Join(dir, "tables")
	if err := os.WriteFile(file+".new", []byte(strings.Join(names, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}
