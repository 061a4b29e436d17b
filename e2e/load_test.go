package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

const (
	loadRowsDefault = 60_000
	loadKills       = 10
	loadRate        = 200 // transactions per second while it loads, at least
	loadWriters     = 8   // connections that make them
	loadSession     = 2 * time.Second
	loadMemory      = 500 << 20
)

// loadTables are tables with each kind of key. Of 100 rows each has its share.
var loadTables = []struct {
	name   string
	share  float64
	create string
	insert string // of $1 rows
}{
	{"numbers", 40, `CREATE TABLE numbers (id bigint PRIMARY KEY, n int NOT NULL, body text NOT NULL)`,
		`INSERT INTO numbers SELECT i, i, 'number ' || i FROM generate_series(1, $1::int) i`},
	{"uuids", 20, `CREATE TABLE uuids (id uuid PRIMARY KEY, n int NOT NULL, body text NOT NULL)`,
		`INSERT INTO uuids SELECT gen_random_uuid(), i, 'uuid ' || i FROM generate_series(1, $1::int) i`},
	{"words", 15, `CREATE TABLE words (id text PRIMARY KEY, n int NOT NULL, body text NOT NULL)`,
		`INSERT INTO words SELECT md5(i::text) || '-' || i, i, 'word ' || i FROM generate_series(1, $1::int) i`},
	{"pairs", 14.5, `CREATE TABLE pairs (id text, part int, n int NOT NULL, body text NOT NULL, PRIMARY KEY (id, part))`,
		`INSERT INTO pairs SELECT 'pair ' || i / 10, i % 10, i, 'pair ' || i FROM generate_series(1, $1::int) i`},
	{"parted", 10, `CREATE TABLE parted (id int PRIMARY KEY, n int NOT NULL, body text NOT NULL) PARTITION BY HASH (id);
		CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 3, REMAINDER 0);
		CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 3, REMAINDER 1);
		CREATE TABLE parted_2 PARTITION OF parted FOR VALUES WITH (MODULUS 3, REMAINDER 2)`,
		`INSERT INTO parted SELECT i, i, 'parted ' || i FROM generate_series(1, $1::int) i`},
	{"large", 0.5, `CREATE TABLE large (id uuid PRIMARY KEY, n int NOT NULL, body text NOT NULL);
		ALTER TABLE large ALTER body SET STORAGE EXTERNAL`,
		`INSERT INTO large SELECT gen_random_uuid(), i, repeat(md5(i::text), 200) FROM generate_series(1, $1::int) i`},
}

// TestFaultFirstLoadKilled loads tables that are being changed, and kills the daemon again and again.
func TestFaultFirstLoadKilled(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "first-load-killed", Area: "Source", Fault: "The daemon is killed ten times during the first load of tables that are being changed",
		Promise: "A range that was copied is not read again; what was changed, deleted or given another key meanwhile is right; no snapshot is held longer than its session.",
		Answer:  "nothing: the next start loads what is left",
	})
	total := loadRowsDefault
	if text := os.Getenv("LANTERNIST_E2E_LOAD_ROWS"); text != "" {
		var err error
		if total, err = strconv.Atoi(text); err != nil {
			t.Fatalf("LANTERNIST_E2E_LOAD_ROWS: %v", err)
		}
	}
	if total == loadRowsDefault {
		t.Parallel()
	}
	in, read := installLoad(t, total)
	random := randomSource(t)
	traffic := in.changeWhileLoading(random.Uint64(), total)
	longest := in.watchSnapshots()

	loading := 0
	var memory int64
	var logs []string
	for i := range loadKills {
		d := in.start()
		d.log.find(readyWithin, `msg="snapshot opened"`, `msg="generation created"`)
		timer := time.NewTimer(time.Duration(random.Int64N(int64(time.Second))))
		select {
		case <-timer.C: // the random moment; nothing is waited for
		case <-d.ended:
		}
		d.alive()
		memory = max(memory, d.peakMemory())
		d.kill()
		read.left(in, i)
		logs = append(logs, d.log.text())
		if !strings.Contains(d.log.text(), `msg="load finished"`) && strings.Contains(d.log.text(), `msg="load started"`) {
			loading++
		}
	}
	t.Logf("killed %d times, %d of them while loading", loadKills, loading)
	if loading == 0 {
		t.Error("no kill hit the load")
	}
	d := in.start()
	devstack.Eventually(t, 10*time.Minute, func() error {
		d.alive()
		text := d.log.text()
		if in.loadedBefore(append(logs, text)) {
			return nil
		}
		// The last kill may have come between the end of the load and the word that says so: then nothing is left to be loaded.
		if !strings.Contains(text, `msg="load started"`) && in.get("/readyz", nil) == nil {
			return nil
		}
		return errors.New("the load has not ended")
	})
	took, n := traffic.sofar()
	t.Logf("loaded %d rows after %v, with %d restarts, under %.0f transactions/s", total, took.Round(time.Millisecond), loadKills, float64(n)/took.Seconds())
	if total != loadRowsDefault && float64(n) < loadRate*took.Seconds() {
		t.Errorf("there were fewer than %d transactions/s", loadRate)
	}
	memory = max(memory, d.peakMemory())
	held := longest()
	devstack.Eventually(t, 15*time.Minute, func() error {
		d.alive()
		return in.get("/readyz", nil)
	})
	traffic.stop()
	d.reach()
	t.Logf("%d documents compared", in.compare(loadTruth))
	d.nothingParked()
	t.Logf("peak memory of the daemon %d MiB while loading, %d MiB when the views were built", memory>>20, d.peakMemory()>>20)
	result.Notef("%d kills, %d of them while loading, peak memory %d MiB", loadKills, loading, memory>>20)
	if memory > loadMemory && !raced {
		t.Errorf("the load took %d MiB of memory, want at most %d", memory>>20, loadMemory>>20)
	}
	d.stop()
	read.left(in, loadKills)
	read.check()
	if held == 0 {
		t.Error("no snapshot was seen on the source")
	}
	slowest, line := onceEach(t, append(logs, d.log.text()))
	t.Logf("longest snapshot held on the source %v, of sessions of %v; slowest range %v: %s", held.Round(time.Millisecond), loadSession, slowest.Round(time.Millisecond), line)
}

// loadedBefore says whether an earlier process has finished the load.
func (in *installation) loadedBefore(logs []string) bool {
	for _, text := range logs {
		if strings.Contains(text, `msg="load finished"`) {
			return true
		}
	}
	return false
}

// installLoad makes the tables, each with its share of total rows, and a view of each. It returns what sees what is read
// of them.
func installLoad(t *testing.T, total int) (*installation, *copies) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	o := options{database: devstack.Postgres(t), views: map[string][]byte{}}
	conn := o.database.Conn(t.Context())
	defer conn.Close(t.Context())
	for _, table := range loadTables {
		o.database.Exec(table.create, fmt.Sprintf("CREATE INDEX %[1]s_n ON %[1]s (n)", table.name))
		if _, err := conn.Exec(t.Context(), table.insert, int(float64(total)*table.share/100)); err != nil {
			t.Fatal(err)
		}
		o.tables = append(o.tables, "public."+table.name)
		more := ""
		if table.name == "pairs" {
			more = "  part:\n"
		}
		o.database.Exec("ANALYZE " + table.name)
		o.views[table.name] = fmt.Appendf(nil, "view: %[1]s\nfrom: public.%[1]s\nfields:\n  id: {as: keyword}\n%[2]s  n:\n  body: {as: keyword}\nsearch:\ncache:\n", table.name, more)
	}
	// In the ordinary suite the rate stretches the load, so that the kills hit it.
	o.more = fmt.Sprintf("log: {level: debug}\nsnapshot: {session: %s, range_rows: %d, rate: %d}\n", loadSession, max(500, total/400), max(total/8, 10_000))
	read := newCopies(t)
	g := newGate(t, o.database, func(string) bool { return false })
	g.see, o.source = read.see, g.url(o.database)
	return install(t, o), read
}

// loadTruth is what the documents must be.
func loadTruth(view string) string {
	if view == "pairs" {
		return `SELECT id || ':' || part, jsonb_build_object('id', id, 'part', part, 'n', n, 'body', body) FROM pairs`
	}
	return fmt.Sprintf(`SELECT id::text, jsonb_build_object('id', id, 'n', n, 'body', body) FROM %s`, view)
}

// loadTraffic is what changes the tables while they are loaded.
type loadTraffic struct {
	began     time.Time
	committed atomic.Int64
	stop      func() // and waits for the end
}

// sofar says how long it has been going on and how many transactions there were.
func (l *loadTraffic) sofar() (time.Duration, int64) { return time.Since(l.began), l.committed.Load() }

// changeWhileLoading updates, deletes, inserts and gives rows other keys, until it is stopped.
func (in *installation) changeWhileLoading(seed uint64, total int) *loadTraffic {
	in.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	pool, err := pgxpool.New(ctx, in.database.URL()+fmt.Sprintf("&pool_max_conns=%d", loadWriters))
	if err != nil {
		in.t.Fatal(err)
	}
	l := &loadTraffic{began: time.Now()}
	pace := rate.NewLimiter(loadRate*1.2, loadRate) // what was late is made up for
	var writers sync.WaitGroup
	for w := range loadWriters {
		random := rand.New(rand.NewPCG(seed, uint64(w)))
		writers.Go(func() {
			for i := w; pace.Wait(ctx) == nil; i += loadWriters {
				sql, arg := loadChange(random, total, i)
				if _, err := pool.Exec(ctx, sql, arg); err == nil {
					l.committed.Add(1)
				} else if ctx.Err() == nil {
					in.t.Errorf("%s: %v", sql, err)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		writers.Wait()
		pool.Close()
		in.t.Logf("%d transactions were committed meanwhile", l.committed.Load())
		if l.committed.Load() == 0 {
			in.t.Error("there were no changes")
		}
	})
	in.t.Cleanup(l.stop)
	return l
}

// loadChange is one transaction on rows that are picked by their n: of ten, five update (a large value only now and then),
// two give another key, which moves a row between partitions, too, two insert and one deletes. A pick may find nothing: the row was deleted before.
func loadChange(random *rand.Rand, total, i int) (sql string, arg int) {
	table := loadTables[random.IntN(len(loadTables))]
	rows := int(float64(total) * table.share / 100)
	other := map[string]string{"uuids": "gen_random_uuid()", "large": "gen_random_uuid()", "words": fmt.Sprintf("md5('%d') || '-other'", i),
		"pairs": fmt.Sprintf("'other %d'", i)}[table.name]
	if other == "" {
		other = strconv.Itoa(2*total + i)
	}
	more := ""
	if table.name == "pairs" {
		more = "1, "
	}
	arg = 1 + random.IntN(rows)
	switch kind := random.IntN(10); {
	case kind == 0 && table.name == "large":
		return fmt.Sprintf(`UPDATE large SET body = repeat(md5('%d'), 200) WHERE n = $1`, i), arg
	case kind < 5:
		return fmt.Sprintf(`UPDATE %s SET n = n, body = CASE WHEN length(body) > 1000 THEN body ELSE body || '.' END WHERE n = $1`, table.name), arg
	case kind < 7:
		return fmt.Sprintf(`UPDATE %s SET id = %s WHERE n = $1`, table.name, other), arg
	case kind < 9:
		return fmt.Sprintf(`INSERT INTO %s SELECT %s, %s$1::int, 'inserted'`, table.name, other, more), 2*total + i
	default:
		return fmt.Sprintf(`DELETE FROM %s WHERE n = $1`, table.name), arg
	}
}

// watchSnapshots looks at the source for how long a snapshot of a load is held there, until the returned function is
// called, which tells the longest that was seen.
func (in *installation) watchSnapshots() (longest func() time.Duration) {
	in.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn := in.database.Conn(ctx)
	ended := make(chan time.Duration, 1)
	go func() {
		defer conn.Close(context.Background())
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		// A snapshot is there as long as the temporary slot that it came with.
		var most time.Duration
		began := map[string]time.Time{}
		for {
			select {
			case <-ctx.Done():
				ended <- most
				return
			case <-tick.C:
			}
			rows, err := conn.Query(ctx, `SELECT slot_name::text FROM pg_replication_slots WHERE temporary AND database = current_database()`)
			var slots []string
			if err == nil {
				slots, err = pgx.CollectRows(rows, pgx.RowTo[string])
			}
			if err != nil && ctx.Err() == nil {
				in.t.Errorf("look at the snapshots: %v", err)
			}
			for _, slot := range slots {
				if began[slot].IsZero() {
					began[slot] = time.Now()
				}
				most = max(most, time.Since(began[slot]))
			}
		}
	}()
	return sync.OnceValue(func() time.Duration {
		cancel()
		return <-ended
	})
}

var rangeLine = regexp.MustCompile(`msg="range (begun|loaded)" table=(\S+) range=(\d+) (?:refill=(\d+) snapshot_age=(\S+)|rows=(\d+) took=(\S+))`)

// onceEach sees to it, in the logs of all processes, that no range was begun again after it was finished, and none in
// a session that was too old. It returns how long the slowest took, and its line.
func onceEach(t *testing.T, logs []string) (slowest time.Duration, line string) {
	t.Helper()
	finished := map[string]bool{}
	begun, first := 0, false
	for text := range strings.Lines(strings.Join(logs, "\n")) {
		if strings.Contains(text, `msg="snapshot opened"`) {
			first = true // it may be begun at any age
		}
		m := rangeLine.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		name := m[2] + " range " + m[3]
		switch {
		case m[4] != "" && m[4] != "0": // rows that moved between snapshots, by key
		case m[1] == "begun":
			begun++
			if finished[name] {
				t.Errorf("%s was begun again after it was finished", name)
			}
			if age, err := time.ParseDuration(m[5]); err != nil || age > loadSession && !first {
				t.Errorf("%s was begun %s after its snapshot was taken, %v", name, m[5], err)
			}
			first = false
		case finished[name]:
			t.Errorf("%s was finished twice", name)
		default:
			finished[name] = true
			took, err := time.ParseDuration(m[7])
			if err != nil {
				t.Fatal(err)
			}
			if took > slowest {
				slowest, line = took, strings.TrimSpace(text)
			}
		}
	}
	divided := 0
	for _, m := range regexp.MustCompile(`msg="table divided" table=\S+ ranges=(\d+)`).FindAllStringSubmatch(strings.Join(logs, "\n"), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		divided += n
	}
	t.Logf("%d ranges: %d finished and said so, %d begun", divided, len(finished), begun)
	// A kill may come between a range's being recorded and the line that says so; no more than one for each worker.
	if len(finished) > divided || len(finished) < divided-loadKills*4 || divided < 2*len(loadTables) {
		t.Errorf("%d ranges, %d of them finished", divided, len(finished))
	}
	return slowest, line
}

// TestOnceEach tests the tests' own eye.
func TestOnceEach(t *testing.T) {
	lines := []string{
		`msg="range begun" table=public.a range=3 refill=0 snapshot_age=1.5s`,
		`msg="range loaded" table=public.a range=3 rows=7 took=20.5ms`,
		`msg="range begun" table=public.a range=0 refill=12 snapshot_age=1ms`,
	}
	for i, want := range [][]string{{"begun", "public.a", "3", "0", "1.5s", "", ""}, {"loaded", "public.a", "3", "", "", "7", "20.5ms"}, {"begun", "public.a", "0", "12", "1ms", "", ""}} {
		if m := rangeLine.FindStringSubmatch(lines[i]); m == nil || !slices.Equal(m[1:], want) {
			t.Errorf("%s: %q", lines[i], m)
		}
	}
}
