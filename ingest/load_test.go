package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// soon has failing tables tried again quickly.
var soon = backoff.Config{Min: 20 * time.Millisecond, Max: 200 * time.Millisecond}

// begin runs a deployment until the returned function is called, which fails the test when it had ended by itself.
func (d *deployment) begin() (stop func()) {
	ctx, cancel := context.WithCancel(d.t.Context())
	done := make(chan error, 1)
	d.loader.Add(d.catalog...)
	go func() { done <- d.move(ctx) }()
	return func() {
		d.t.Helper()
		select {
		case err := <-done:
			d.t.Fatalf("ended by itself: %v", err)
		default:
		}
		cancel()
		<-done
	}
}

// TestBrokenTableHoldsNoOtherBack loads two tables, of which one may not be read for a while.
func TestBrokenTableHoldsNoOtherBack(t *testing.T) {
	db := devstack.Postgres(t)
	role := db.Name() + "_reader"
	db.Exec("CREATE TABLE bad (id int PRIMARY KEY)", "CREATE TABLE good (id int PRIMARY KEY)",
		"INSERT INTO bad SELECT generate_series(1, 2000)", "INSERT INTO good SELECT generate_series(1, 2000)",
		fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION PASSWORD 'reader'", role), "GRANT SELECT ON good TO "+role)
	t.Cleanup(func() { db.Exec("DROP OWNED BY "+role, "DROP ROLE "+role) })
	d := newDeployment(t, db, "public.bad", "public.good")
	d.open()
	defer d.close()
	reader := d.cfg
	u, err := url.Parse(reader.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "reader")
	reader.URL = u.String()
	d.loader = NewLoader(LoadConfig{RangeRows: 500, Retry: soon}, reader, d.schemas, d.mirror, d.reader.RequestPosition, slog.New(slog.DiscardHandler))
	stop := d.begin()
	devstack.Eventually(t, time.Minute, func() error {
		p := d.loader.Progress()
		if len(p.Failing) != 1 || p.Failing[0].Attempts < 2 {
			return fmt.Errorf("progress %+v", p)
		}
		if f := p.Failing[0]; f.Table != "public.bad" || !strings.Contains(f.Error, "permission denied") {
			t.Fatalf("failing is %+v", f)
		}
		for _, s := range d.catalog {
			if d.mirror.Loaded(s.OID) != (s.Name == "good") {
				return fmt.Errorf("%s is loaded: %t", s.Name, d.mirror.Loaded(s.OID))
			}
		}
		return nil
	})
	db.Exec("GRANT SELECT ON bad TO " + role)
	d.reach(db)
	if rows := d.compare(); rows != 4000 {
		t.Errorf("%d rows", rows)
	}
	devstack.Eventually(t, time.Minute, func() error {
		if p := d.loader.Progress(); p.Loading || len(p.Failing) > 0 || p.Rows != 4000 {
			return fmt.Errorf("progress %+v", p)
		}
		return nil
	})
	stop()
}

// TestColumnDroppedWhileItsTableIsLoaded drops a column when some ranges have been read with it.
func TestColumnDroppedWhileItsTableIsLoaded(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE wide (id int PRIMARY KEY, gone text, kept text)",
		"INSERT INTO wide SELECT i, 'gone ' || i, 'kept ' || i FROM generate_series(1, 3000) i", "ANALYZE wide")
	d := newDeployment(t, db, "public.wide")
	d.open()
	defer d.close()
	d.loader = NewLoader(LoadConfig{Workers: 1, RangeRows: 100, Rate: 2000, Retry: soon}, d.cfg, d.schemas, d.mirror, d.reader.RequestPosition, slog.New(slog.DiscardHandler))
	stop := d.begin()
	devstack.Eventually(t, time.Minute, func() error {
		if p := d.loader.Progress(); p.Rows == 0 {
			return errors.New("nothing is loaded")
		}
		return nil
	})
	db.Exec("ALTER TABLE wide DROP COLUMN gone")
	if d.mirror.Loaded(d.catalog[0].OID) {
		t.Fatal("the table was loaded before its column was dropped")
	}
	d.reach(db)
	snapshot, err := d.mirror.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	rows, without := 0, 0
	err = snapshot.Scan(d.catalog[0].OID, nil, func(_ []byte, rec mirror.Record) error {
		rows++
		s := rec.Schema
		id, kept := rec.Row.Column(s.Column("id")), rec.Row.Column(s.Column("kept"))
		if want := "kept " + string(id.Text); string(kept.Text) != want {
			t.Errorf("row %s has %q, want %q", id.Text, kept.Text, want)
		}
		if s.Column("gone") < 0 {
			without++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if rows != 3000 || without == 0 || without == rows {
		t.Errorf("%d rows, %d of them read without the column", rows, without)
	}
	stop()
}

// TestManySnapshots loads with sessions of a single range each, while rows, with values that the stream does not send,
// move between ranges.
func TestManySnapshots(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE moving (id uuid PRIMARY KEY, n int, body text NOT NULL)", "ALTER TABLE moving ALTER body SET STORAGE EXTERNAL",
		"INSERT INTO moving SELECT gen_random_uuid(), i, repeat(md5(i::text), 100) FROM generate_series(1, 3000) i", "ANALYZE moving")
	d := newDeployment(t, db, "public.moving")
	d.open()
	defer d.close()
	var out lockedBuffer
	d.loader = NewLoader(LoadConfig{Workers: 1, RangeRows: 200, Session: time.Nanosecond, Retry: soon}, d.cfg, d.schemas, d.mirror,
		d.reader.RequestPosition, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, cancel := context.WithCancel(t.Context())
	moved := make(chan int)
	conn := db.Conn(t.Context())
	go func() {
		// Slowly enough for most rows to stay where they are while a session is opened.
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for ; ctx.Err() == nil; n++ {
			if _, err := conn.Exec(t.Context(), "UPDATE moving SET id = gen_random_uuid() WHERE n = $1", n*37%3000); err != nil {
				t.Error(err)
				break
			}
			<-tick.C
		}
		moved <- n
	}()
	stop := d.begin()
	devstack.Eventually(t, time.Minute, func() error {
		if !d.mirror.Loaded(d.catalog[0].OID) {
			return errors.New("not loaded")
		}
		return nil
	})
	cancel()
	t.Logf("%d times rows were given other keys", <-moved)
	d.reach(db)
	if rows := d.compare(); rows != 3000 {
		t.Errorf("%d rows", rows)
	}
	p := d.loader.Progress()
	text := out.String()
	loaded := strings.Count(text, `msg="range loaded"`)
	t.Logf("%d ranges under %d snapshots, longest %v; %d times rows had moved between them", loaded, p.Sessions, p.Longest,
		strings.Count(text, `msg="rows moved between snapshots"`))
	if loaded < 10 || p.Sessions < loaded {
		t.Errorf("%d ranges under %d snapshots, want one each", loaded, p.Sessions)
	}
	for i := range loaded {
		if n := strings.Count(text, fmt.Sprintf(`msg="range loaded" table=public.moving range=%d `, i)); n != 1 {
			t.Errorf("range %d was loaded %d times", i, n)
		}
	}
	stop()
}

// TestRateIsOfAllWorkers copies with several workers in the bubble's own time.
func TestRateIsOfAllWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLoader(LoadConfig{Rate: 1000}, cdc.Config{}, nil, nil, nil, nil)
		began := time.Now()
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				for range 10 {
					if err := l.pace(t.Context(), 250); err != nil {
						t.Error(err)
					}
				}
			})
		}
		workers.Wait()
		if took := time.Since(began); took < 9800*time.Millisecond || took > 10*time.Second {
			t.Errorf("10,000 rows at 1,000 per second took %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.pace(ctx, 1000); !errors.Is(err, context.Canceled) {
			t.Errorf("pace after the end: %v", err)
		}
	})
}

func TestRangesFitIntoASession(t *testing.T) {
	for _, c := range []struct {
		cfg  LoadConfig
		want int
	}{
		{LoadConfig{}, 50_000},
		{LoadConfig{Rate: 1_000_000}, 50_000},
		{LoadConfig{Workers: 4, Rate: 400, Session: 10 * time.Second}, 500},
		{LoadConfig{Workers: 8, Rate: 1, Session: time.Second}, 1},
	} {
		if got := c.cfg.withDefaults().RangeRows; got != c.want {
			t.Errorf("%+v: ranges of %d rows, want %d", c.cfg, got, c.want)
		}
	}
}

// lockedBuffer is written to by several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestSessionBeginsWhatItCanEnd asks sessions of two seconds for ranges at different ages.
func TestSessionBeginsWhatItCanEnd(t *testing.T) {
	for _, c := range []struct {
		age, took time.Duration
		taken     int
		want      bool
	}{
		{age: time.Second, took: 300 * time.Millisecond, taken: 1, want: true},
		{age: 1800 * time.Millisecond, took: 300 * time.Millisecond, taken: 1, want: false},
		{age: 1800 * time.Millisecond, took: 100 * time.Millisecond, taken: 1, want: true},
		{age: 900 * time.Millisecond, took: time.Hour, taken: 1, want: true}, // one slow range does not end all sessions at once
		{age: 1100 * time.Millisecond, took: time.Hour, taken: 1, want: false},
		{age: time.Hour, took: time.Hour, taken: 0, want: true},
	} {
		l := NewLoader(LoadConfig{Session: 2 * time.Second}, cdc.Config{}, nil, nil, nil, slog.New(slog.DiscardHandler))
		under := &table{schema: &row.Schema{}, planned: true, todo: make([]piece, 1), ctx: t.Context()}
		l.tables, l.rangeTook = []*table{under}, c.took
		s := &loadSession{Loader: l, began: time.Now().Add(-c.age), taken: c.taken}
		if _, ok := s.next(); ok != c.want {
			t.Errorf("%d ranges, at the age of %v, ranges taking %v: begun %t, want %t", c.taken, c.age, c.took, ok, c.want)
		}
	}
	l := NewLoader(LoadConfig{}, cdc.Config{}, nil, nil, nil, slog.New(slog.DiscardHandler))
	under := &table{schema: &row.Schema{}, planned: true, todo: make([]piece, 3), ctx: t.Context()}
	l.tables = []*table{under}
	ends := 0
	s := &loadSession{Loader: l, began: time.Now(), end: func() { ends++ }}
	for range 2 {
		s.next()
	}
	if s.pieceRead(); ends > 0 {
		t.Error("the snapshot was ended while a piece was read and another was left")
	}
	s.next()
	if s.pieceRead(); ends > 0 {
		t.Error("the snapshot was ended while a piece was read")
	}
	if s.pieceRead(); ends != 1 {
		t.Error("the snapshot was not ended when all was read")
	}
	under.todo = make([]piece, 1)
	if _, ok := s.next(); ok {
		t.Error("a piece was begun without a snapshot")
	}
	for _, took := range []time.Duration{time.Second, 4 * time.Second, time.Second} {
		s.tookRange(took)
	}
	if l.rangeTook != 3*time.Second {
		t.Errorf("ranges take %v, want 3s", l.rangeTook)
	}
}
