package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deployment is what a pump needs, in a folder that outlives it.
type deployment struct {
	t       *testing.T
	cfg     cdc.Config
	dir     string
	slot    pglogrepl.LSN
	catalog []*row.Schema

	control control.Store
	schemas *schemas.Registry
	journal *journal.Journal
	mirror  *mirror.Mirror
	reader  *cdc.Reader
	pump    *Pump
	loader  *Loader
}

func newDeployment(t *testing.T, db *devstack.Database, tables ...string) *deployment {
	t.Helper()
	d := resumeDeployment(t, db.URL(), db.Name(), t.TempDir())
	d.cfg.Tables = tables
	d.setup()
	return d
}

// resumeDeployment is a deployment in a folder that another process may have left.
func resumeDeployment(t *testing.T, url, name, dir string) *deployment {
	cfg := cdc.DefaultConfig()
	cfg.URL, cfg.Slot, cfg.Publication = url, name, name
	cfg.BatchBytes = 64 << 10 // so that larger transactions come in parts
	return &deployment{t: t, cfg: cfg, dir: dir}
}

func (d *deployment) setup() {
	d.t.Helper()
	source, err := cdc.Setup(d.t.Context(), d.cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.slot = source.ConfirmedFlush
}

// open opens everything, as a daemon does that starts.
func (d *deployment) open() {
	d.t.Helper()
	ctx, log := d.t.Context(), slog.New(slog.DiscardHandler)
	check := func(err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
	}
	var err error
	d.control, err = control.OpenPebble(filepath.Join(d.dir, "control"), log)
	check(err)
	registry, err := schemas.Open(ctx, d.control)
	check(err)
	d.schemas = registry
	engine, err := segments.Open(filepath.Join(d.dir, "journal"), segments.Config{}, log)
	check(err)
	d.journal, err = journal.Open(ctx, engine, registry, journal.Config{}, log)
	check(err)
	d.mirror, err = mirror.Open(mirror.Config{Dir: filepath.Join(d.dir, "mirror"), CacheSize: 32 << 20, MemTableSize: 4 << 20}, registry, log)
	check(err)
	check(CatchUp(ctx, d.journal, d.mirror))
	d.catalog, err = LoadCatalog(ctx, d.cfg, registry, d.cfg.Tables)
	check(err)
	d.reader, err = cdc.NewReader(d.cfg, registry, log)
	check(err)
	d.pump = NewPump(PumpConfig{Slot: d.slot, MaxBatch: 128 << 10}, d.reader, d.journal, d.mirror, d.control, log)
	d.loader = NewLoader(LoadConfig{Workers: 2, RangeRows: 500}, d.cfg, registry, d.mirror, d.reader.RequestPosition, log)
}

func (d *deployment) close() {
	d.t.Helper()
	if err := errors.Join(d.mirror.Close(), d.journal.Close(), d.control.Close()); err != nil {
		d.t.Fatal(err)
	}
}

// run moves changes, and loads the catalog, until ctx ends.
func (d *deployment) run(ctx context.Context) error {
	d.loader.Add(d.catalog...)
	return d.move(ctx)
}

// move moves changes until ctx ends.
func (d *deployment) move(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan error, 2)
	go func() { done <- d.pump.Run(ctx) }()
	go func() { done <- d.loader.Run(ctx) }()
	first := <-done
	cancel(first)
	return errors.Join(first, <-done)
}

// reach waits until the mirror has everything that is committed now.
func (d *deployment) reach(db *devstack.Database) {
	d.t.Helper()
	var text string
	if err := db.Conn(d.t.Context()).QueryRow(d.t.Context(), "SELECT pg_current_wal_flush_lsn()::text").Scan(&text); err != nil {
		d.t.Fatal(err)
	}
	until, err := pglogrepl.ParseLSN(text)
	if err != nil {
		d.t.Fatal(err)
	}
	devstack.Eventually(d.t, time.Minute, func() error {
		d.reader.RequestPosition(until)
		if p, _ := d.mirror.Progress(); p.LSN < until {
			return fmt.Errorf("mirror is at %v, want %v", p.LSN, until)
		}
		for _, s := range d.catalog {
			if !d.mirror.Loaded(s.OID) {
				return fmt.Errorf("%s is not loaded", s.QualifiedName())
			}
		}
		return nil
	})
}

// compare compares every row of every table, byte for byte.
func (d *deployment) compare() (rows int) {
	d.t.Helper()
	ctx := d.t.Context()
	session, err := cdc.OpenSession(ctx, d.cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	defer session.Close()
	snapshot, err := d.mirror.Snapshot(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	defer snapshot.Close()
	for _, s := range d.catalog {
		want := map[string][]byte{}
		err := session.Copy(ctx, s, cdc.Range{}, func(copied []row.Row) error {
			for _, r := range copied {
				key, ok := s.AppendKey(nil, r)
				if !ok {
					return fmt.Errorf("row without a key: %q", r)
				}
				want[string(key)] = bytes.Clone(r)
			}
			return nil
		})
		if err != nil {
			d.t.Fatal(err)
		}
		err = snapshot.Scan(s.OID, nil, func(key []byte, rec mirror.Record) error {
			rows++
			if w, ok := want[string(key)]; !ok {
				d.t.Errorf("%s: %q is in the mirror, not in the source", s.Name, key)
			} else if !bytes.Equal(w, rec.Row) {
				d.t.Errorf("%s: %q is %q in the mirror, %q in the source", s.Name, key, rec.Row, w)
			}
			delete(want, string(key))
			return nil
		})
		if err != nil {
			d.t.Fatal(err)
		}
		for key := range want {
			d.t.Errorf("%s: %q is in the source, not in the mirror", s.Name, key)
		}
	}
	return rows
}

// checkJournal sees to it that every transaction is in the journal once, in commit order, with an end.
func (d *deployment) checkJournal() (transactions int) {
	d.t.Helper()
	var last journal.Part
	for seq := d.journal.First(); seq <= d.journal.Head().Offset.Sequence(); seq++ {
		b, err := d.journal.Read(d.t.Context(), seq)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, p := range b.Parts {
			goesOn := p.XID == last.XID && p.CommitLSN == last.CommitLSN
			switch {
			case goesOn && last.Complete:
				d.t.Fatalf("batch %d: transaction %d goes on after its end", seq, p.XID)
			case !goesOn && p.CommitLSN <= last.CommitLSN:
				d.t.Fatalf("batch %d: transaction %d at %v comes after %v", seq, p.XID, p.CommitLSN, last.CommitLSN)
			case !goesOn && last.CommitLSN != 0 && !last.Complete:
				d.t.Fatalf("batch %d: transaction %d begins before %d has ended", seq, p.XID, last.XID)
			case !goesOn:
				transactions++
			}
			last = p
		}
	}
	return transactions
}

// TestMirrorFollowsTheShop loads the shop while it is being changed, with restarts at random moments, and compares every
// row at the end.
func TestMirrorFollowsTheShop(t *testing.T) {
	db := devstack.Postgres(t)
	ctx := t.Context()
	if err := shop.Create(ctx, db.Conn(ctx), shop.Size{Customers: 400, Products: 100, Orders: 1500}); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	pool, err := pgxpool.New(ctx, db.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	d := newDeployment(t, db, shop.Tables()...)
	tctx, stop := context.WithCancel(ctx)
	traffic := &shop.Traffic{Pool: pool, Workers: 3, Seed: seed}
	ended := make(chan error, 1)
	go func() { ended <- traffic.Run(tctx) }()

	for range 5 {
		d.open()
		rctx, cancel := context.WithTimeout(ctx, time.Duration(200+random.IntN(1500))*time.Millisecond)
		if err := d.run(rctx); rctx.Err() == nil {
			t.Fatal(err)
		}
		cancel()
		d.close()
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	d.open()
	defer d.close()
	rctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.run(rctx) }()
	d.reach(db)
	rows, transactions := d.compare(), d.checkJournal()
	cancel()
	<-done
	t.Logf("%d rows compared, %d transactions in the journal, %+v", rows, transactions, traffic.Counts())
	if rows == 0 || transactions == 0 {
		t.Error("nothing was compared")
	}
}

// TestLargeTransactionInParts writes a transaction that is larger than any batch, and stops in the midst of it.
func TestLargeTransactionInParts(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE big (id int PRIMARY KEY, note text)")
	d := newDeployment(t, db, "public.big")
	db.Exec("INSERT INTO big SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i", "UPDATE big SET note = note || id")
	for range 4 {
		d.open()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for from := d.journal.Head().Offset; ctx.Err() == nil; {
				b, err := d.journal.Next(ctx, from)
				if err != nil {
					return
				}
				if n := len(b.Parts); n > 0 && !b.Parts[n-1].Complete {
					cancel() // in the midst of it
				}
				from = b.Last()
			}
		}()
		if err := d.run(ctx); err == nil {
			t.Fatal("ended without an error")
		}
		cancel()
		d.close()
	}
	d.open()
	defer d.close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	d.reach(db)
	if rows := d.compare(); rows != 20000 {
		t.Errorf("%d rows", rows)
	}
	if n := d.checkJournal(); n != 2 {
		t.Errorf("%d transactions in the journal, want 2", n)
	}
	cancel()
	<-done
}

// TestIdleSourceIsAcknowledged writes only to a table that is not captured: the slot must move all the same, and a
// restart must not take it for a slot that is ahead.
func TestIdleSourceIsAcknowledged(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE kept (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY, note text)")
	d := newDeployment(t, db, "public.kept")
	confirmed := func() (lsn string) {
		t.Helper()
		if err := db.Conn(t.Context()).QueryRow(t.Context(), "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", d.cfg.Slot).Scan(&lsn); err != nil {
			t.Fatal(err)
		}
		return lsn
	}
	for round := range 2 {
		d.open()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.run(ctx) }()
		before := confirmed()
		db.Exec(fmt.Sprintf("INSERT INTO other SELECT i, repeat('x', 1000) FROM generate_series(%d, %d) i", round*5000, round*5000+4999))
		d.reach(db)
		devstack.Eventually(t, time.Minute, func() error {
			if now := confirmed(); now == before {
				return fmt.Errorf("slot is still at %s", now)
			}
			return nil
		})
		cancel()
		if err := <-done; errors.Is(err, cdc.ErrSlotAhead) {
			t.Fatal(err)
		}
		d.close()
	}
}

func TestMirrorOfAnotherTime(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE kept (id int PRIMARY KEY)")
	d := newDeployment(t, db, "public.kept")
	d.open()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	db.Exec("INSERT INTO kept VALUES (1)")
	d.reach(db)
	cancel()
	<-done
	d.close()

	log := slog.New(slog.DiscardHandler)
	if err := os.RemoveAll(filepath.Join(d.dir, "journal")); err != nil {
		t.Fatal(err)
	}
	kv, err := control.OpenPebble(filepath.Join(d.dir, "control"), log)
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	registry, err := schemas.Open(t.Context(), kv)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := segments.Open(filepath.Join(d.dir, "journal"), segments.Config{}, log)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), engine, registry, journal.Config{}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	m, err := mirror.Open(mirror.Config{Dir: filepath.Join(d.dir, "mirror")}, registry, log)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := CatchUp(t.Context(), j, m); !errors.Is(err, ErrJournalBehind) {
		t.Errorf("CatchUp with an older journal: %v", err)
	}
}

// TestWhatIsNotCapturedIsNotAcknowledgedEarly delivers transactions that are captured together with later ones that are not:
// at the next start, a slot that is ahead of what is durable has lost something.
func TestWhatIsNotCapturedIsNotAcknowledgedEarly(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE kept (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY)")
	d := newDeployment(t, db, "public.kept", "public.other")
	d.open()
	defer d.close()
	d.pump.SetCaptures(func(s *row.Schema) (bool, pglogrepl.LSN) { return s.Name == "kept", 0 })
	for i := range 3 {
		delivery := &cdc.Delivery{}
		for k, s := range d.catalog {
			commit := pglogrepl.LSN(1<<40 + 200*i + 100*k)
			delivery.Transactions = append(delivery.Transactions, cdc.Transaction{
				Transaction: event.Transaction{XID: uint32(10*i + k + 1), CommitLSN: commit, EndLSN: commit + 50, CommitTime: time.Now()},
				Changes:     []cdc.Change{{Op: event.Insert, Schema: s, After: row.New(row.Value{Kind: row.Text, Text: fmt.Append(nil, i)})}},
				Last:        true,
			})
		}
		if err := d.pump.deliver(t.Context(), delivery); err != nil {
			t.Fatal(err)
		}
		durable := d.journal.Head().EndLSN
		if text, ok, err := d.control.Get(t.Context(), keyAcknowledged); err != nil {
			t.Fatal(err)
		} else if ok {
			lsn, err := pglogrepl.ParseLSN(string(text))
			if err != nil {
				t.Fatal(err)
			}
			durable = max(durable, lsn)
		}
		if got := d.reader.Stats().Acknowledged; got > durable || got < d.journal.Head().EndLSN {
			t.Errorf("acknowledged %v, durable is %v, the journal ends at %v", got, durable, d.journal.Head().EndLSN)
		}
		if p, _ := d.mirror.Progress(); p.LSN != delivery.Transactions[1].EndLSN {
			t.Errorf("mirror is at %v", p.LSN)
		}
	}
}
